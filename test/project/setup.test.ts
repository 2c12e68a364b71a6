import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

const root = join(__dirname, '../..');

interface Need {
  what: string;
  why: string;
}
interface System {
  needs: Record<string, Need>;
  missingNeeds: (options?: { dev?: boolean }) => Need[];
  installCommands: (missing: Need[], manager: 'apt' | 'dnf' | 'brew') => string[][];
  howToGet: (missing: Need[]) => string[];
}
// eslint-disable-next-line @typescript-eslint/no-require-imports -- plain JavaScript
const system = require(join(root, 'scripts/system.js')) as System;

function run(script: string, args: string[], env: NodeJS.ProcessEnv) {
  return spawnSync(process.execPath, [join(root, script), ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
}

describe('system packages', () => {
  const all = Object.values(system.needs);

  it('are all here, since the addon is built', () => {
    expect(system.missingNeeds()).to.deep.equal([]);
    expect(run('scripts/setup', [], {})).to.include({ status: 0, stdout: '', stderr: '' });
  });

  it('have an install command on Debian, Fedora and macOS', () => {
    const line = (manager: 'apt' | 'dnf' | 'brew') =>
      system.installCommands(all, manager).map((words) => words.join(' '));
    expect(line('apt').join()).to.match(/apt-get install -y .*\bg\+\+ make cmake libdnnl-dev\b/);
    expect(line('dnf').join()).to.match(/dnf install -y .*\bgcc-c\+\+ make cmake onednn-devel\b/);
    expect(line('brew')).to.deep.equal(['xcode-select --install', 'brew install cmake onednn libomp clang-format']);
  });

  it('that are missing are listed by --check with the reason and the command, and nothing is installed', () => {
    const { status, stderr, stdout } = run('scripts/setup', ['--check'], { PATH: '', CXX: '' });
    expect(status).to.equal(1);
    expect(stdout).to.equal('');
    for (const name of ['compiler', 'make', 'cmake']) {
      const need = system.needs[name];
      expect(stderr).to.contain(`${need.what}: ${need.why}`);
    }
    expect(stderr).to.match(/Install them:\n {2}/);
    expect(stderr).not.to.contain('clang-format');
    expect(run('scripts/setup', ['--check', '--dev'], { PATH: '' }).stderr).to.contain('clang-format');
  });

  it('are looked for on a PATH with folders that cannot be entered', () => {
    // ELOOP stands for a folder of another user, which root may enter: neither says that the file is not there.
    const folder = mkdtempSync(join(tmpdir(), 'slimclr-path-'));
    try {
      symlinkSync('loop', join(folder, 'loop'));
      const path = [join(folder, 'loop'), process.env.PATH].join(delimiter);
      expect(run('scripts/setup', ['--check'], { PATH: path })).to.include({ status: 0, stderr: '' });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('are not installed on a misspelt option', () => {
    const { status, stderr } = run('scripts/setup', ['--chek'], {});
    expect(status).to.equal(2);
    expect(stderr).to.contain('--chek').and.to.contain('--check');
  });

  it('that are missing end a build of the addon in the command that installs them', () => {
    const { status, stderr } = run('scripts/build-native.js', ['--quiet'], { PATH: '', CXX: '' });
    expect(status).to.equal(1);
    const lines = stderr.trimEnd().split('\n');
    expect(lines.slice(-2)).to.deep.equal(['then:', '  npm run build']);
    expect(stderr).to.contain(system.needs['cmake']?.what);
    expect(stderr).to.contain('Install them:');
  });
});

describe('package-lock.json', () => {
  it('names no registry, so that each user may have their own', () => {
    const lock = readFileSync(join(root, 'package-lock.json'), 'utf8');
    expect(lock).not.to.contain('"resolved"');
    expect(lock).to.contain('"integrity"');
  });
});

describe('the test report', () => {
  it('closes with a plain line of the counts', () => {
    const folder = mkdtempSync(join(tmpdir(), 'slimclr-report-'));
    try {
      const file = join(folder, 'sample.js');
      writeFileSync(file, "it('a', () => {}); it('b', () => {}); it('c', () => { throw new Error('c'); }); it('d');");
      const args = [
        join(root, 'node_modules/mocha/bin/mocha.js'),
        '--no-config',
        '--reporter',
        'scripts/mocha-reporter.js',
        file,
      ];
      const { status, stdout } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
      expect(stdout.trimEnd().split('\n').at(-1)).to.equal('tests: 2 passed, 1 failed, 1 skipped');
      expect(status).to.equal(1);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
