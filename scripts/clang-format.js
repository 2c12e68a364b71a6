// Checks the format of the C++ sources; with --fix, mends it.
'use strict';
const fs = require('fs');
const path = require('path');
const { spawnSync } = require('child_process');
const { needs, howToGet } = require('./system');

const root = path.dirname(__dirname);
if (!needs.clangFormat.found()) {
  console.error(['clang-format is missing. Install it:', ...howToGet([needs.clangFormat])].join('\n'));
  process.exit(1);
}
const files = ['native', 'test/native'].flatMap((folder) =>
  fs
    .readdirSync(path.join(root, folder), { recursive: true })
    .filter((name) => /\.(h|c|cpp|cu|cuh)$/.test(name))
    .map((name) => path.join(folder, name)),
);
const mode = process.argv.includes('--fix') ? ['-i'] : ['--dry-run', '-Werror'];
process.exit(spawnSync('clang-format', [...mode, ...files], { cwd: root, stdio: 'inherit' }).status ?? 1);
