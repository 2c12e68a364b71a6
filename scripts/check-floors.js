// Checks that each folder imports only from the floors below it (docs: CONTRIBUTING.md), in lib/ and in native/.
//   node scripts/check-floors.js [FOLDER]      FOLDER holds lib/ and native/; default: this repository
'use strict';
const fs = require('fs');
const path = require('path');

// What each room may use beside itself.
const lib = { native: [], tensor: ['native'] };
for (const room of ['nn', 'optim', 'data', 'io']) lib[room] = ['native', 'tensor'];
lib.methods = ['native', 'tensor', 'nn', 'optim', 'data', 'io'];
lib.train = [...lib.methods, 'methods'];
lib.report = [...lib.train, 'train'];
lib.cli = [...lib.report, 'report'];
lib.index = [...lib.cli, 'cli'];

const native = {
  core: [],
  'cpu/kernels': [],
  cpu: ['core', 'cpu/kernels'],
  cuda: ['core'],
  no_cuda: ['core'],
  addon: ['core'],
};
// Headers without inlined library code, which kernels may use, and libraries that stay inside one room.
const allowedHeaders = { 'cpu/kernels': ['core/philox.h', 'core/augment_params.h'] };
const libraries = [
  { header: /^napi\.h$|^node_api\.h$/, room: 'addon' },
  { header: /dnnl/, room: 'cpu' },
  { header: /^cu[a-z]+(_|\.)|^nccl/, room: 'cuda' },
];

const filesUnder = (folder, pattern) =>
  fs.existsSync(folder)
    ? fs.readdirSync(folder, { recursive: true }).filter((name) => pattern.test(name) && !name.includes('node_modules'))
    : [];

/** The room of a path inside lib/ or native/, by its first folders. native*.ts and package-root.ts stand below the rooms. */
function roomOf(file, rooms) {
  const [first, second] = file.replace(/\.ts$/, '').split('/');
  if (rooms === lib && /^(native|package-root)/.test(first)) return 'native';
  return [`${first}/${second}`, first].find((room) => Object.hasOwn(rooms, room));
}

function check(root) {
  const problems = [];
  const report = (place, text, index, what) =>
    problems.push(`${place}:${text.slice(0, index).split('\n').length}: ${what}`);

  for (const file of filesUnder(path.join(root, 'lib'), /\.ts$/)) {
    const text = fs.readFileSync(path.join(root, 'lib', file), 'utf8');
    const room = roomOf(file, lib);
    if (!room) {
      report(`lib/${file}`, text, 0, `stands on no floor; put it into one of ${Object.keys(lib).join(', ')}`);
      continue;
    }
    for (const match of text.matchAll(/(?:\bfrom|\bimport|\brequire)\s*\(?\s*['"](\.[^'"]*)['"]/g)) {
      const target = path.join(path.dirname(file), match[1]);
      if (target.startsWith('..')) {
        report(`lib/${file}`, text, match.index, `imports ${match[1]}, which is outside lib/`);
        continue;
      }
      const to = roomOf(target, lib);
      if (to !== room && !lib[room].includes(to)) {
        report(
          `lib/${file}`,
          text,
          match.index,
          `${room} imports ${match[1]} (${to ?? 'no floor'}); allowed: ${lib[room].join(', ') || 'none'}`,
        );
      }
    }
  }

  for (const file of filesUnder(path.join(root, 'native'), /\.(h|cpp|cu|cuh)$/)) {
    const text = fs.readFileSync(path.join(root, 'native', file), 'utf8');
    const room = roomOf(file, native);
    if (!room) {
      report(`native/${file}`, text, 0, `stands on no floor; put it into one of ${Object.keys(native).join(', ')}`);
      continue;
    }
    for (const match of text.matchAll(/^[ \t]*#\s*include\s*[<"]([^>"]+)[>"]/gm)) {
      const header = match[1];
      const library = libraries.find((each) => each.header.test(header) && each.room !== room);
      if (library)
        report(`native/${file}`, text, match.index, `${room} includes ${header}, which belongs into ${library.room}`);
      const target = [path.join(path.dirname(file), header), path.normalize(header)].find((name) =>
        fs.existsSync(path.join(root, 'native', name)),
      );
      if (!target) continue; // of the system or a library
      const to = roomOf(target, native);
      if (to !== room && !native[room].includes(to) && !allowedHeaders[room]?.includes(target)) {
        const allowed = [...native[room], ...(allowedHeaders[room] ?? [])].join(', ') || 'none';
        report(
          `native/${file}`,
          text,
          match.index,
          `${room} includes ${header} (${to ?? 'no floor'}); allowed: ${allowed}`,
        );
      }
    }
  }
  return problems;
}

const problems = check(path.resolve(process.argv[2] ?? path.dirname(__dirname)));
for (const problem of problems) console.error(problem);
if (problems.length > 0) console.error('Imports go only downwards: see "Floors" in CONTRIBUTING.md');
process.exit(problems.length > 0 ? 1 : 0);
