import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { loadTensors, readState } from '../../lib/nn';
import { AdamW, LARS, LossScaler, SGD, type LossScalerOptions, type Optimizer } from '../../lib/optim';
import { backward, memoryStats, scale, scope, sum, tensor, type Tensor } from '../../lib/tensor';

describe('LossScaler', () => {
  const made: { dispose(): void }[] = [];
  const own = <T extends { dispose(): void }>(x: T): T => (made.push(x), x);
  afterEach(() => {
    for (const x of made.splice(0)) x.dispose();
  });

  const weights = [0.5, -1.25, 3, 2, -0.75, 1, 0.125];
  const parameter = () => own(tensor(weights, [weights.length], { requiresGrad: true }));
  const scaler = (options?: LossScalerOptions) => own(new LossScaler(options));
  const floats = (t: Tensor) => Array.from(t.dataSync() as Float32Array);
  const stateOf = ({ scale: s, state }: LossScaler) => [
    floats(s)[0],
    Number((state.get('good_steps')!.dataSync() as BigInt64Array)[0]),
  ];
  /** A training step whose gradient is `factor` everywhere, but `bad` in one element. */
  const trainingStep = (optimizer: Optimizer, p: Tensor, s: LossScaler, factor: number, bad?: number) =>
    scope(() => {
      optimizer.zeroGrad();
      backward(scale(sum(p), factor), s.scale);
      if (bad !== undefined) p.grad!.copyFrom(floats(p.grad!).map((g, i) => (i === 5 ? bad : g)));
      s.unscale(optimizer);
      s.step(optimizer);
    });

  /** PyTorch's GradScaler, on a list of overflows. */
  function expected(overflows: boolean[], { growth, backoff, interval }: Required<Omit<LossScalerOptions, 'device'>>) {
    let [value, good] = [65_536, 0];
    return overflows.map((overflow) => {
      if (overflow) [value, good] = [value * backoff, 0];
      else if (++good === interval) [value, good] = [value * growth, 0];
      return [value, good];
    });
  }

  const withRate = <T extends Optimizer>(optimizer: T): T => {
    optimizer.setLearningRate(0.1);
    return own(optimizer);
  };
  const optimizers: Record<string, (p: Tensor) => Optimizer> = {
    SGD: (p) => withRate(new SGD(new Map([['p', p]]), { momentum: 0.9, weightDecay: 0.1 })),
    LARS: (p) => withRate(new LARS(new Map([['p', p]]), { momentum: 0.9 })),
    AdamW: (p) => withRate(new AdamW(new Map([['p', p]]), { weightDecay: 0.1 })),
  };
  for (const [name, make] of Object.entries(optimizers)) {
    it(`takes ${name}'s steps as without a scale, and none where a gradient is not finite`, () => {
      const [p, q] = [parameter(), parameter()];
      const [scaled, plain] = [make(p), make(q)];
      const s = scaler();
      for (const bad of [undefined, Infinity, undefined, NaN, -Infinity, undefined]) {
        trainingStep(scaled, p, s, 0.37, bad);
        if (bad !== undefined) continue;
        scope(() => {
          plain.zeroGrad();
          backward(scale(sum(q), 0.37));
          plain.step();
        });
      }
      expect(floats(p)).to.deep.equal(floats(q)); // scales are powers of two
      expect(floats(p)).to.not.deep.equal(weights);
      for (const [key, t] of scaled.state) expect(floats(t), key).to.deep.equal(floats(plain.state.get(key)!));
    });
  }

  it("follows GradScaler's scale", () => {
    const rule = { scale: 65_536, growth: 4, backoff: 0.25, interval: 3 };
    const p = parameter();
    const sgd = optimizers.SGD(p);
    const s = scaler(rule);
    const overflows = [0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0].map(Boolean);
    const seen = overflows.map((overflow) => {
      trainingStep(sgd, p, s, 1, overflow ? Infinity : undefined);
      return stateOf(s);
    });
    expect(seen).to.deep.equal(expected(overflows, rule));
  });

  it('starts at 65,536, doubles after 2,000 good steps and halves after an overflow', () => {
    const p = parameter();
    const sgd = optimizers.SGD(p);
    const s = scaler();
    expect(stateOf(s)).to.deep.equal([65_536, 0]);
    loadTensors(
      'the loss scale',
      s.state,
      new Map(
        [...s.state].map(([name, t]) => [
          name,
          { shape: t.shape, data: name === 'scale' ? Float32Array.of(65_536) : BigInt64Array.of(1998n) },
        ]),
      ),
    );
    trainingStep(sgd, p, s, 1);
    expect(stateOf(s)).to.deep.equal([65_536, 1999]);
    trainingStep(sgd, p, s, 1);
    expect(stateOf(s)).to.deep.equal([131_072, 0]);
    trainingStep(sgd, p, s, 1, NaN);
    expect(stateOf(s)).to.deep.equal([65_536, 0]);
  });

  it('does not grow beyond float32', () => {
    const p = parameter();
    const sgd = optimizers.SGD(p);
    const s = scaler({ scale: 2 ** 60, growth: 2 ** 70, interval: 1 });
    trainingStep(sgd, p, s, 1e-9);
    expect(stateOf(s)).to.deep.equal([2 ** 60, 0]);
  });

  it('finds what is not finite in any element of gradients of any size', () => {
    for (const n of [1, 3, 17, 8192, 8193]) {
      for (const at of [0, n >> 1, n - 1]) {
        const p = own(tensor(new Float32Array(n), [n], { requiresGrad: true }));
        const sgd = optimizers.SGD(p);
        const s = scaler();
        scope(() => {
          backward(sum(p), s.scale);
          const gradient = new Float32Array(n).fill(s.scale.dataSync()[0] as number);
          gradient[at] = Infinity;
          p.grad!.copyFrom(gradient);
          expect(floats(sgd.unscaleGradients(s.scale)), `${at} of ${n}`).to.deep.equal([1]);
          p.grad!.copyFrom(new Float32Array(n).fill(3e38));
          expect(floats(sgd.unscaleGradients(s.scale)), `${at} of ${n}`).to.deep.equal([0]);
        });
      }
    }
  });

  it('goes on bit for bit from its state', async () => {
    const rule = { growth: 2, backoff: 0.5, interval: 3 };
    const p = parameter();
    const sgd = optimizers.SGD(p);
    const s = scaler(rule);
    for (const bad of [undefined, Infinity, undefined, undefined]) trainingStep(sgd, p, s, 1, bad);
    const copy = scaler({ ...rule, scale: 7 });
    loadTensors('the loss scale', copy.state, await readState(s.state));
    expect(stateOf(copy)).to.deep.equal([32_768, 2]);
    for (const each of [s, copy]) trainingStep(sgd, p, each, 1);
    expect(stateOf(copy)).to.deep.equal(stateOf(s));
  });

  it('refuses a wrong scale, a wrong rule and a step before unscale()', () => {
    for (const wrong of [0, -1, NaN, Infinity])
      expect(() => new LossScaler({ scale: wrong })).to.throw(RangeError, 'scale');
    const p = parameter();
    const sgd = optimizers.SGD(p);
    expect(() => scaler().step(sgd)).to.throw('[loss-scaler] expected unscale() before step()');
    expect(() => trainingStep(sgd, p, scaler({ interval: 0 }), 1)).to.throw(
      RangeError,
      '[updateScale] expected interval',
    );
    expect(() => trainingStep(sgd, p, scaler({ growth: 0.5 }), 1)).to.throw(
      RangeError,
      '[updateScale] expected growth',
    );
    expect(() => trainingStep(sgd, p, scaler({ backoff: 0 }), 1)).to.throw(
      RangeError,
      '[updateScale] expected backoff',
    );
    expect(() => sgd.step(own(tensor([0, 0], [2])))).to.throw(RangeError, '[sgd] expected skip of one element');
  });

  it('gives its memory back', async () => {
    await collectGarbage();
    const before = memoryStats();
    new LossScaler().dispose();
    expect(memoryStats().tensors).to.equal(before.tensors);
  });
});
