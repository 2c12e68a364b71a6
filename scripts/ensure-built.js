// Brings a clone to where it runs: system packages, npm packages, the native addon, dist. Does only what is not done yet,
// and says what it does. Plain JavaScript without dependencies: `npm test` and `npm run quickstart` start with it.
'use strict';
const fs = require('fs');
const path = require('path');
const { spawnSync } = require('child_process');
const { newest } = require('./newest');

const root = path.dirname(__dirname);
const at = (name) => path.join(root, name);
const readJson = (name) => JSON.parse(fs.readFileSync(at(name), 'utf8'));

function step(what, command, args) {
  if (what) console.error(`slimclr: ${what}`);
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (error) console.error(`slimclr: ${command} cannot be run: ${error.message}`);
  if (status !== 0) process.exit(status || 1);
}

/** Runs npm: the one that runs this script, else the one on PATH. */
function npm(what, ...args) {
  const cli = process.env.npm_execpath;
  if (cli) step(what, process.execPath, [cli, ...args]);
  else step(what, 'npm', args);
}

/** Whether node_modules holds what package-lock.json asks for. */
function packagesInstalled() {
  if (!fs.existsSync(at('node_modules/.package-lock.json'))) return false;
  const installed = readJson('node_modules/.package-lock.json').packages;
  return Object.entries(readJson('package-lock.json').packages).every(
    ([name, { version, optional }]) =>
      name === '' || (installed[name] ? installed[name].version === version : optional),
  );
}

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(
    `slimclr needs Node.js 20.19 or newer; this is ${process.versions.node}. Get one from https://nodejs.org`,
  );
  process.exit(1);
}

step('', process.execPath, [at('scripts/setup')]);
if (!packagesInstalled())
  npm('installing npm packages and building the native addon (npm ci)', 'ci', '--no-audit', '--no-fund');
const native = require('./build-native');
if (!native.upToDate()) {
  console.error('slimclr: building the native addon (npm run build:native)');
  if (!native.build()) process.exit(1);
}
if (newest([at('dist')]) < newest([at('lib'), at('tsconfig.json'), at('tsconfig.build.json')])) {
  npm('compiling TypeScript to dist (npm run build:ts)', 'run', '--silent', 'build:ts');
}
