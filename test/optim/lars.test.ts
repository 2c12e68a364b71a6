import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { LARS } from '../../lib/optim';
import { backward, memoryStats, scale, scope, sum, tensor } from '../../lib/tensor';

describe('LARS', () => {
  it('scales and decays matrices only, with momentum', async () => {
    await collectGarbage();
    const before = memoryStats().tensors;
    const matrix = tensor([2], [1, 1], { requiresGrad: true });
    const bias = tensor([1], [1], { requiresGrad: true });
    const lars = new LARS(new Map(Object.entries({ matrix, bias })), { momentum: 0.5, weightDecay: 0.5 });
    lars.setLearningRate(10);
    scope(() => {
      backward(scale(sum(matrix), 3));
      backward(scale(sum(bias), 3));
    });
    lars.step(); // matrix: g = 3 + 0.5·2, times 0.001·2/4; bias: g = 3
    expect((await matrix.data())[0]).to.be.closeTo(2 - 10 * 0.002, 1e-6);
    expect((await bias.data())[0]).to.be.closeTo(1 - 30, 1e-5);
    lars.step(); // μ = 0.001 + 0.001·‖p‖
    expect((await matrix.data())[0]).to.be.closeTo(1.98 - 10 * (0.001 + 0.00198), 1e-6);
    expect([...lars.state.keys()]).to.deep.equal(['momentum.matrix', 'momentum.bias']);
    for (const t of [matrix, bias]) {
      t.grad?.dispose();
      t.dispose();
    }
    lars.dispose();
    expect(memoryStats().tensors).to.equal(before);
  });

  it('refuses settings that make no sense', () => {
    const w = tensor([1], [1]);
    expect(() => new LARS(new Map())).to.throw(RangeError, /\[lars\] expected parameters/);
    expect(() => new LARS(new Map([['w', w]]), { weightDecay: -1 })).to.throw(RangeError, /weightDecay >= 0.*-1/);
    w.dispose();
  });
});
