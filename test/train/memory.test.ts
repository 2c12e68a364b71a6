import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { newFolder, removeFolders } from './tiny-run';

describe('memory of a run', function () {
  this.timeout(600_000);
  after(removeFolders);

  it('does not grow by 2 % from step 20 to step 200, in all and inside V8', () => {
    // V8's young generation has one size, else it alone makes 5 % of difference.
    const flags = ['--expose-gc', '--min-semi-space-size=4', '--max-semi-space-size=4'];
    const words = [...flags, join(__dirname, 'memory-child.js'), newFolder()];
    const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8', timeout: 590_000 });
    expect(status, stderr).to.equal(0);
    const measured = JSON.parse(stdout) as Record<number, { rss: number; heapUsed: number }>;
    const growth = (of: 'rss' | 'heapUsed') => measured[200][of] / measured[20][of];
    expect(growth('rss'), stdout).to.be.lessThan(1.02);
    expect(growth('heapUsed'), stdout).to.be.lessThan(1.05);
  });
});
