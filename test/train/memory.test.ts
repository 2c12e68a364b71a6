import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { newFolder, removeFolders } from './tiny-run';

describe('memory of a run', function () {
  this.timeout(600_000);
  after(removeFolders);

  it('is flat within 2 % from step 20 to step 200, outside and inside V8', () => {
    const words = ['--expose-gc', join(__dirname, 'memory-child.js'), newFolder()];
    const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8', timeout: 590_000 });
    expect(status, stderr).to.equal(0);
    const measured = JSON.parse(stdout) as Record<number, { outside: number; heapUsed: number }>;
    const growth = (of: 'outside' | 'heapUsed') => measured[200][of] / measured[20][of];
    expect(growth('outside'), stdout).to.be.within(0.98, 1.02);
    expect(growth('heapUsed'), stdout).to.be.lessThan(1.05);
  });
});
