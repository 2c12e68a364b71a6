import { expect } from 'chai';
import { newFolder, removeFolders, startNode } from './tiny-run';

describe('the resident memory of a run', function () {
  this.timeout(300_000);
  after(removeFolders);

  it('grows by less than 2 % from step 20 to step 200', async () => {
    const { code, stdout, stderr } = await startNode('test/train/resident-memory.ts', [newFolder()]).finished;
    expect(code, stderr).to.equal(0);
    const [at20, at200] = JSON.parse(stdout) as number[];
    expect(at200 / at20 - 1, `${at20} to ${at200} bytes`).to.be.below(0.02);
  });
});
