// What slimclr needs from the operating system, and the commands that install it here.
// Plain JavaScript without dependencies: it runs before anything is installed or compiled. lib/native.ts reads it as well.
'use strict';
const fs = require('fs');
const path = require('path');
const { spawnSync } = require('child_process');

const mac = process.platform === 'darwin';

/** Whether PATH holds one of the commands. */
function onPath(...commands) {
  const folders = (process.env.PATH ?? '').split(path.delimiter).filter(Boolean);
  const isFile = (name) => {
    try {
      return fs.statSync(name).isFile();
    } catch {
      return false; // not there, or in a folder that this user may not look into
    }
  };
  return commands.some((command) => folders.some((folder) => isFile(path.join(folder, command))));
}

function hasCompiler() {
  // On macOS /usr/bin/c++ exists before there is a compiler behind it, and asking it opens a window.
  if (mac) return spawnSync('xcode-select', ['-p']).status === 0;
  return Boolean(process.env.CXX) || onPath('c++', 'g++', 'clang++');
}

/** oneDNN's header in one of the folders where cmake/OneDnn.cmake looks for it. */
function hasOneDnn() {
  const prefixes = [
    process.env.ONEDNN_ROOT,
    ...(process.env.CMAKE_PREFIX_PATH ?? '').split(path.delimiter),
    ...['/usr/local', '/usr', '/opt/homebrew'],
  ];
  return prefixes.some((prefix) => prefix && fs.existsSync(path.join(prefix, 'include/oneapi/dnnl/dnnl.hpp')));
}

/**
 * Each need: what it is, what for, whether it is there, and the package of each package manager.
 * `dev: true` marks what only work on slimclr itself needs.
 */
const needs = {
  compiler: {
    what: 'a C++20 compiler with OpenMP (GCC 11 or newer, or Clang 14 or newer)',
    why: 'compiles the native addon',
    found: hasCompiler,
    packages: { apt: ['g++'], dnf: ['gcc-c++'], brew: [] },
    command: { brew: 'xcode-select --install' },
  },
  make: {
    what: 'make or ninja',
    why: 'runs the compiler',
    found: () => onPath('ninja', 'make'),
    packages: { apt: ['make'], dnf: ['make'], brew: [] },
    command: { brew: 'xcode-select --install' },
  },
  cmake: {
    what: 'CMake 3.22 or newer',
    why: 'describes the build of the native addon',
    found: () => onPath('cmake'),
    packages: { apt: ['cmake'], dnf: ['cmake'], brew: ['cmake'] },
  },
  onednn: {
    what: 'oneDNN 2.6 or newer with its headers (https://github.com/uxlfoundation/oneDNN; set ONEDNN_ROOT to its folder)',
    why: 'computes convolutions on the CPU',
    found: hasOneDnn,
    packages: { apt: ['libdnnl-dev'], dnf: ['onednn-devel'], brew: ['onednn'] },
  },
  openmp: {
    what: "the compiler's OpenMP library (libgomp or libomp)",
    why: 'spreads the kernels over the processor cores',
    // On Linux it comes with GCC.
    found: () => !mac || ['/opt/homebrew', '/usr/local'].some((p) => fs.existsSync(`${p}/opt/libomp/include/omp.h`)),
    packages: { apt: ['libgomp1'], dnf: ['libgomp'], brew: ['libomp'] },
  },
  clangFormat: {
    what: 'clang-format',
    why: 'checks the format of the C++ sources (npm run lint)',
    found: () => onPath('clang-format'),
    packages: { apt: ['clang-format'], dnf: ['clang-tools-extra'], brew: ['clang-format'] },
    dev: true,
  },
};

/** 'apt', 'dnf' or 'brew'; undefined on a system whose packages slimclr does not know. */
function packageManager() {
  if (mac) return 'brew';
  let release = '';
  try {
    release = fs.readFileSync('/etc/os-release', 'utf8');
  } catch {
    return undefined;
  }
  const field = (name) => new RegExp(`^${name}="?([^"\n]*)`, 'm').exec(release)?.[1] ?? '';
  const ids = `${field('ID')} ${field('ID_LIKE')}`.split(' ');
  if (ids.includes('debian') || ids.includes('ubuntu')) return 'apt';
  return ids[0] === 'fedora' ? 'dnf' : undefined;
}

const isRoot = process.getuid?.() === 0;

/** The command lines (words) that install `missing` (elements of `needs`), for a package manager. */
function installCommands(missing, manager) {
  const packages = missing.flatMap((need) => need.packages[manager]);
  const sudo = isRoot || manager === 'brew' ? [] : ['sudo'];
  const words = {
    apt: [...sudo, 'apt-get', 'install', '-y', '--no-install-recommends'],
    dnf: [...sudo, 'dnf', 'install', '-y'],
    brew: ['brew', 'install'],
  }[manager];
  const others = new Set(missing.flatMap((need) => need.command?.[manager] ?? []));
  return [...[...others].map((line) => line.split(' ')), ...(packages.length ? [[...words, ...packages]] : [])];
}

/** Lines that tell how to get `missing` on this system. */
function howToGet(missing) {
  const manager = packageManager();
  if (manager) return installCommands(missing, manager).map((words) => `  ${words.join(' ')}`);
  return ["  with your system's package manager:", ...missing.map((need) => `  - ${need.what}`)];
}

/** The needs that this system lacks; with `dev` also those of work on slimclr itself. */
function missingNeeds({ dev = false } = {}) {
  return Object.values(needs).filter((need) => (dev || !need.dev) && !need.found());
}

module.exports = { needs, missingNeeds, packageManager, installCommands, howToGet };
