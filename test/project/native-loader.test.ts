import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { transpileModule, ModuleKind } from 'typescript';

const root = join(__dirname, '../..');

describe('loading the native addon', () => {
  let folder: string;
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'slimclr-loader-'))));
  afterEach(() => rmSync(folder, { recursive: true }));

  /** A copy of the package without an addon, in `place`; returns its compiled loader. */
  function packageIn(place: string): string {
    for (const name of ['scripts', 'dist/lib']) mkdirSync(join(place, name), { recursive: true });
    for (const name of ['package.json', 'scripts/system.js']) copyFileSync(join(root, name), join(place, name));
    for (const name of ['package-root', 'native']) {
      const source = readFileSync(join(root, `lib/${name}.ts`), 'utf8');
      const { outputText } = transpileModule(source, { compilerOptions: { module: ModuleKind.CommonJS } });
      writeFileSync(join(place, `dist/lib/${name}.js`), outputText);
    }
    return join(place, 'dist/lib/native.js');
  }

  /** The message of the error that loading throws, in a process of its own. */
  function failure(loader: string, env: NodeJS.ProcessEnv = {}): string {
    const script = `try { require(${JSON.stringify(loader)}); } catch (e) { process.stdout.write(e.message); }`;
    // Not the addon that these tests may run on.
    const environment = { ...process.env, SLIMCLR_ADDON: undefined, ...env };
    const child = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8', env: environment });
    expect(child.stderr).to.equal('');
    expect(child.stdout).to.match(/^slimclr's native addon does not load \(/);
    return child.stdout;
  }

  /** An addon that is linked against `library`, which is gone. */
  function addonThatNeeds(library: string): string {
    const [source, lost, addon] = ['empty.c', library, 'fake.node'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    writeFileSync(source, 'int slimclr_test;');
    const link = (...args: string[]) =>
      spawnSync('cc', ['-shared', '-fPIC', ...args], { cwd: folder, encoding: 'utf8' });
    expect(link('-o', lost, `-Wl,-soname,${library}`, source).stderr).to.equal('');
    expect(link('-o', addon, source, '-Wl,--no-as-needed', lost).stderr).to.equal('');
    rmSync(lost);
    return addon;
  }

  it('gives the addon of this build', () => {
    const count = `Object.keys(require(${JSON.stringify(join(root, 'lib/native.ts'))}).native).length`;
    const script = `process.stdout.write(String(${count}))`;
    const args = ['-r', 'ts-node/register/transpile-only', '-e', script];
    const child = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
    expect(child.stderr).to.equal('');
    expect(Number(child.stdout)).to.be.greaterThan(0);
  });

  it('tells how to build it in a clone', () => {
    const message = failure(packageIn(join(folder, 'slimclr')));
    expect(message).to.contain('it is not built;');
    expect(message).to.match(/build it:\n {2}npm run build$/);
  });

  it('tells how to build it as an installed package, whose install script npm may not have run', () => {
    const message = failure(packageIn(join(folder, 'node_modules/slimclr')));
    expect(message).to.contain('install script');
    expect(message).to.match(/\n {2}npm rebuild slimclr --foreground-scripts$/);
  });

  it('lists first what the build needs and this system lacks', () => {
    const message = failure(packageIn(join(folder, 'slimclr')), { PATH: '', CXX: '' });
    expect(message).to.match(/install what building it needs:\n(.*\n)+build it:\n {2}npm run build$/);
    expect(message).to.match(/cmake/i);
  });

  it('names a wrong SLIMCLR_ADDON', () => {
    const message = failure(packageIn(folder), { SLIMCLR_ADDON: join(folder, 'missing.node') });
    expect(message)
      .to.contain('missing.node')
      .and.to.match(/SLIMCLR_ADDON names no file;\n {2}unset SLIMCLR_ADDON$/);
  });

  for (const [what, content] of [
    ['an empty', ''],
    ['a damaged', 'not a shared library\n'.repeat(100)],
  ] as const) {
    it(`tells how to replace ${what} file`, () => {
      const addon = join(folder, 'slimclr.node');
      writeFileSync(addon, content);
      const message = failure(packageIn(folder), { SLIMCLR_ADDON: addon });
      expect(message).to.match(/damaged or was built for another system.*build anew:\n {2}npm run build$/);
    });
  }

  const onLinux = process.platform === 'linux' ? it : it.skip;
  onLinux('tells how to get a missing oneDNN', () => {
    const message = failure(packageIn(folder), { SLIMCLR_ADDON: addonThatNeeds('libdnnl.so.99') });
    expect(message)
      .to.contain('libdnnl.so.99')
      .and.to.match(/oneDNN is missing(.*\n)+.*oneDNN|libdnnl-dev|onednn-devel/);
    expect(message).to.match(/\n {2}npm run build$/);
  });
  onLinux('tells how to get a missing OpenMP library', () => {
    const message = failure(packageIn(folder), { SLIMCLR_ADDON: addonThatNeeds('libgomp.so.99') });
    expect(message).to.match(/OpenMP library is missing; install it:\n(.*\n)*.*(libgomp|libomp)/);
  });
});
