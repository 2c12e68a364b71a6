// The benchmark for GPU machines, gone through in small sizes on the CPU: that it runs, not what it measures.
import { expect } from 'chai';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(__dirname, '../..');

describe('bench:device --rehearse', function () {
  this.timeout(300_000);

  it('measures steps, the loss and every own kernel, and writes both files', () => {
    const words = ['-r', 'ts-node/register/transpile-only', 'bench/device.ts', '--rehearse', '--no-peer'];
    const env = { ...process.env, SLIMCLR_TEST_DEVICE: 'cpu', SLIMCLR_TEST_MINUTES: '9' };
    execFileSync(process.execPath, words, { cwd: root, env, stdio: 'pipe' });
    const file = (extension: string) =>
      readFileSync(join(root, `build/results/bench-device-rehearsal.${extension}`), 'utf8');
    const { rows, kernels } = JSON.parse(file('json')) as {
      rows: { what: string; ms: number }[];
      kernels: { what: string; ms: number; floor_ms: number }[];
    };
    expect(rows.map(({ what }) => what.split(',')[0])).eql(['loss and gradient', ...Array<string>(6).fill('step')]);
    expect(kernels).length.above(20);
    for (const { what, ms, floor_ms } of [...rows.map((r) => ({ ...r, floor_ms: 1 })), ...kernels]) {
      expect(ms, what).above(0);
      expect(floor_ms, what).above(0);
    }
    for (const { what } of [...rows, ...kernels]) expect(file('md')).include(what);
  });
});
