// Builds build/Release/slimclr.node with cmake-js.
//   --if-needed   does nothing when the addon is newer than its sources and loads
//   --quiet       prints the compiler's output only when the build fails (npm install)
// Environment: SLIMCLR_CUDA=off|auto|on|emulate, SLIMCLR_CUDA_ARCHITECTURES="80;90a", SLIMCLR_WERROR=ON, CUDA_PATH, CUDNN_ROOT,
// ONEDNN_ROOT, CXX, CMAKE_PREFIX_PATH.
'use strict';
const fs = require('fs');
const os = require('os');
const path = require('path');
const { spawnSync } = require('child_process');
const { missingNeeds, howToGet } = require('./system');
const { newest } = require('./newest');

const root = path.dirname(__dirname);
// Kernels of CUDA run on the CPU, for tests.
const emulated = process.env.SLIMCLR_CUDA === 'emulate';
const addon = path.join(root, 'build', emulated ? 'Emulated' : 'Release', 'slimclr.node');
const work = emulated ? 'build/cmake-emulated' : 'build/cmake'; // not build/ itself, where node-gyp keeps its Makefile

/** Whether the addon is newer than what it is made of, and loads in this Node.js. */
function upToDate() {
  const sources = newest(['native', 'cmake', 'CMakeLists.txt'].map((name) => path.join(root, name)));
  if (newest([addon]) < sources) return false;
  return spawnSync(process.execPath, ['-e', 'require(process.argv[1])', addon]).status === 0;
}

function build({ quiet = false } = {}) {
  const missing = missingNeeds();
  if (missing.length > 0) {
    console.error('slimclr: the native addon cannot be built here; missing:');
    for (const need of missing) console.error(`  - ${need.what}`);
    console.error(['Install them:', ...howToGet(missing), 'then:', `  ${again()}`].join('\n'));
    return false;
  }
  let cmakeJs;
  try {
    cmakeJs = path.join(path.dirname(require.resolve('cmake-js/package.json')), 'bin/cmake-js');
  } catch {
    console.error('slimclr: cmake-js is not installed. Run:\n  npm ci');
    return false;
  }

  // A compiler takes up to about 1 GB.
  const jobs = Math.max(1, Math.min(os.availableParallelism(), Math.floor(os.totalmem() / 2 ** 30)));
  const options = [
    `--CDSLIMCLR_CUDA=${process.env.SLIMCLR_CUDA || 'auto'}`,
    `--CDSLIMCLR_WERROR=${process.env.SLIMCLR_WERROR || 'OFF'}`,
    ...(process.env.SLIMCLR_CUDA_ARCHITECTURES
      ? [`--CDSLIMCLR_CUDA_ARCHITECTURES=${process.env.SLIMCLR_CUDA_ARCHITECTURES}`]
      : []),
  ];
  const run = (command, capture) => {
    const words = [cmakeJs, command, '-d', root, '-O', path.join(root, work), '-p', jobs, '-l', 'error', ...options];
    const stdio = capture ? ['ignore', 'pipe', 'pipe'] : 'inherit';
    const result = spawnSync(process.execPath, words, { cwd: root, stdio, encoding: 'utf8', maxBuffer: 2 ** 28 });
    return { ok: result.status === 0, output: `${result.stdout ?? ''}${result.stderr ?? ''}` };
  };

  let configured = run('configure', true);
  const cache = path.join(root, work, 'CMakeCache.txt');
  if (!configured.ok && fs.existsSync(cache)) {
    // Left by another generator, compiler or folder: once more from nothing.
    fs.rmSync(path.join(root, work), { recursive: true, force: true });
    configured = run('configure', true);
  }
  const notice = /^-- (slimclr: CUDA.*)$/m.exec(configured.output)?.[1];
  if (notice) console.log(notice);
  const built = configured.ok ? run('build', quiet) : configured;
  if (built.ok) return true;

  console.error(built.output);
  console.error('slimclr: the native addon was not built; the reason stands above. Mend it, then:');
  console.error(`  ${again()}`);
  return false;
}

/** How to build again: an installed package by npm, a clone by its own script. */
function again() {
  return root.split(path.sep).includes('node_modules') ? 'npm rebuild slimclr --foreground-scripts' : 'npm run build';
}

module.exports = { upToDate, build };

if (require.main === module) {
  const options = process.argv.slice(2);
  const done = (options.includes('--if-needed') && upToDate()) || build({ quiet: options.includes('--quiet') });
  process.exit(done ? 0 : 1);
}
