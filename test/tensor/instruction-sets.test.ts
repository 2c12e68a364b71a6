import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { deviceInfo } from '../../lib/tensor';
import { runChild } from './child';

// Those that start processes of their own, or test no kernel.
const others = ['exit', 'fuzz', 'instruction-sets', 'scope', 'worker'];
const files = readdirSync(__dirname)
  .filter((name) => name.endsWith('.test.ts') && !others.includes(name.replace('.test.ts', '')))
  .map((name) => join(__dirname, name));

/** The instruction set that was used, and a digest of augmented pictures. */
function augmentedBy(isa: string): string[] {
  const { status, stdout, stderr } = runChild('augment-child.ts', [], { env: { SLIMCLR_ISA: isa } });
  expect(status, stderr).to.equal(0);
  return stdout.split(' ');
}

describe('kernels', function () {
  this.timeout(300_000);
  const best = deviceInfo('cpu').kernels;

  for (const isa of ['baseline', 'avx2', 'avx512'].filter((name) => name !== best)) {
    it(`pass the same tests at the instruction set ${isa}`, function () {
      const env = { ...process.env, SLIMCLR_ISA: isa };
      const script = `require('./lib/tensor').deviceInfo('cpu').kernels`;
      const run = (...words: string[]) =>
        spawnSync(process.execPath, words, { cwd: join(__dirname, '../..'), env, encoding: 'utf8' });
      const used = run('-r', 'ts-node/register/transpile-only', '-e', `process.stdout.write(${script})`);
      if (used.stdout !== isa) this.skip(); // this machine lacks it
      const { status, stdout, stderr } = run(require.resolve('mocha/bin/mocha.js'), ...files);
      expect(status, stdout + stderr).to.equal(0);
      expect(stdout).to.match(/tests: \d{3} passed, 0 failed/);
    });

    it(`make the same bits of pictures at the instruction set ${isa}`, function () {
      const [used, pictures] = augmentedBy(isa);
      if (used !== isa) this.skip(); // this machine lacks it
      expect(pictures).to.equal(augmentedBy(best)[1]);
    });
  }
});
