import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { SGD, type SGDOptions } from '../../lib/optim';
import { backward, memoryStats, scale, scope, sum, tensor, type Tensor } from '../../lib/tensor';

describe('SGD', () => {
  const made: { dispose(): void }[] = [];
  const own = <T extends { dispose(): void }>(x: T): T => (made.push(x), x);
  afterEach(() => {
    for (const x of made.splice(0)) x.dispose();
  });

  const parameter = (values: number[], shape: number[]) => own(tensor(values, shape, { requiresGrad: true }));
  const optimizer = (parameters: Record<string, Tensor>, options: SGDOptions, lr: number) => {
    const sgd = own(new SGD(new Map(Object.entries(parameters)), options));
    sgd.setLearningRate(lr);
    return sgd;
  };
  /** Accumulates the gradient g in every element of the parameters. */
  const backwardOf = (parameters: Tensor[], g: number) =>
    scope(() => {
      for (const p of parameters) backward(scale(sum(p), g));
    });
  const values = async (t: Tensor) => Array.from((await t.data()) as Float32Array);

  it('accumulates momentum and decays weights', async () => {
    const w = parameter([1, 2], [1, 2]);
    const sgd = optimizer({ w }, { momentum: 0.5, weightDecay: 0.1 }, 0.25);
    backwardOf([w], 1);
    sgd.step(); // μ = 1 + 0.1·w = [1.1, 1.2]; w -= 0.25·μ
    expect((await values(w))[0]).to.be.closeTo(0.725, 1e-6);
    expect((await values(w))[1]).to.be.closeTo(1.7, 1e-6);
    sgd.step(); // the same gradient: μ = 0.55 + 1 + 0.0725
    expect((await values(w))[0]).to.be.closeTo(0.725 - 0.25 * 1.6225, 1e-6);
    expect((await values(sgd.state.get('momentum.w')!))[0]).to.be.closeTo(1.6225, 1e-6);
  });

  it('looks ahead with Nesterov', async () => {
    const w = parameter([1], [1]);
    const sgd = optimizer({ w }, { momentum: 0.5, weightDecay: 0, nesterov: true }, 0.1);
    backwardOf([w], 1);
    sgd.step(); // μ = 1; w -= 0.1·(1 + 0.5·1)
    expect((await values(w))[0]).to.be.closeTo(0.85, 1e-6);
  });

  it('decays one-dimensional parameters as released, or not', async () => {
    for (const [decayOneDimensional, expected] of [
      [true, 0.5],
      [false, 1],
    ] as const) {
      const [matrix, bias] = [parameter([1], [1, 1]), parameter([1], [1])];
      const sgd = optimizer({ matrix, bias }, { weightDecay: 0.5, decayOneDimensional }, 1);
      backwardOf([matrix, bias], 0);
      sgd.step();
      expect(await values(matrix)).to.deep.equal([0.5]);
      expect(await values(bias)).to.deep.equal([expected]);
    }
  });

  it('leaves parameters without gradient alone', async () => {
    const [used, unused] = [parameter([1], [1]), parameter([1], [1])];
    const sgd = optimizer({ used, unused }, { weightDecay: 0.5 }, 1);
    backwardOf([used], 0);
    sgd.step();
    expect(await values(used)).to.deep.equal([0.5]);
    expect(await values(unused)).to.deep.equal([1]);
  });

  it('zeroes gradients', async () => {
    const w = parameter([1], [1]);
    const sgd = optimizer({ w }, {}, 1);
    sgd.zeroGrad(); // no gradient yet
    backwardOf([w], 3);
    expect(await values(w.grad!)).to.deep.equal([3]);
    sgd.zeroGrad();
    expect(await values(w.grad!)).to.deep.equal([0]);
  });

  it('gives its memory back', async () => {
    await collectGarbage();
    const w = parameter([1], [1]);
    const before = memoryStats().tensors;
    new SGD(new Map([['w', w]])).dispose();
    expect(memoryStats().tensors).to.equal(before);
  });

  it('refuses settings that make no sense', () => {
    const w = parameter([1], [1]);
    expect(() => new SGD(new Map())).to.throw(RangeError, /expected parameters/);
    expect(() => new SGD(new Map([['w', w]]), { momentum: -1 })).to.throw(
      RangeError,
      /expected momentum >= 0, received -1/,
    );
    expect(() => new SGD(new Map([['w', w]]), { weightDecay: NaN })).to.throw(RangeError, /weightDecay.*NaN/);
  });
});
