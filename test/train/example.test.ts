import { expect } from 'chai';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { newFolder, removeFolders, startNode } from './tiny-run';

describe('examples/pretrain.ts', function () {
  this.timeout(300_000);
  after(removeFolders);

  it('runs to its end and prints every width', async () => {
    const out = join(newFolder(), 'run');
    const { code, stdout, stderr } = await startNode('examples/pretrain.ts', [out, '2', '160']).finished;
    expect(code, stderr).to.equal(0);
    for (const word of ['width', 'kNN untrained', 'linear', '0.25']) expect(stdout).to.include(word);
    expect(existsSync(join(out, 'checkpoint.safetensors'))).to.equal(true);
  });
});
