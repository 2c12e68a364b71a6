import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { AdamW } from '../../lib/optim';
import { backward, memoryStats, scale, scope, sum, tensor } from '../../lib/tensor';

describe('AdamW', () => {
  it('steps by about the learning rate, decays, and counts steps per parameter', async () => {
    await collectGarbage();
    const before = memoryStats().tensors;
    const [early, late] = [1, 1].map((v) => tensor([v], [1, 1], { requiresGrad: true }));
    const adamw = new AdamW(new Map(Object.entries({ early, late })), { weightDecay: 0.5 });
    adamw.setLearningRate(0.1);
    scope(() => backward(scale(sum(early), 7)));
    adamw.step(); // decay to 0.95; m̂/√v̂ = 1
    expect((await early.data())[0]).to.be.closeTo(0.85, 1e-6);
    expect((await late.data())[0]).to.equal(1);
    scope(() => backward(scale(sum(late), -7)));
    adamw.step();
    expect((await early.data())[0]).to.be.closeTo(0.85 * 0.95 - 0.1, 1e-6);
    expect((await late.data())[0]).to.be.closeTo(0.95 + 0.1, 1e-6);
    const steps = ['early', 'late'].map(async (name) => (await adamw.state.get(`step.${name}`)!.data())[0]);
    expect(await Promise.all(steps)).to.deep.equal([2, 1]);
    expect([...adamw.state.keys()].filter((key) => key.endsWith('late'))).to.deep.equal([
      'exp_avg.late',
      'exp_avg_sq.late',
      'step.late',
    ]);
    for (const t of [early, late]) {
      t.grad?.dispose();
      t.dispose();
    }
    adamw.dispose();
    expect(memoryStats().tensors).to.equal(before);
  });

  it('refuses settings that make no sense', () => {
    const w = tensor([1], [1]);
    expect(() => new AdamW(new Map())).to.throw(RangeError, /\[adamw\] expected parameters/);
    expect(() => new AdamW(new Map([['w', w]]), { eps: NaN })).to.throw(RangeError, /\[adamw\] expected eps >= 0/);
    w.dispose();
  });
});
