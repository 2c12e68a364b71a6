import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { SimCLR, type SimCLROptions } from '../../lib/methods';
import { backward, l2Normalize, memoryStats, randn, scope, tensor, type Tensor } from '../../lib/tensor';
import { checkGradient, input, numbers } from '../tensor/gradient-check';

describe('SimCLR', () => {
  const made: { dispose(): void }[] = [];
  const own = <T extends { dispose(): void }>(x: T): T => (made.push(x), x);
  afterEach(() => {
    for (const x of made.splice(0)) x.dispose();
  });

  const tiny = { arch: 'resnet20', baseWidth: 4, widths: [1, 0.5], dim: 6, mlpDim: 8 } as const;
  const make = (options: Partial<SimCLROptions> = {}) => own(new SimCLR({ ...tiny, ...options }));
  const view = (seed: number) => own(randn([5, 3, 16, 16], { seed }));
  const step = (simclr: SimCLR, seed: number, slim: boolean) => {
    const { loss, perWidth } = simclr.step(view(seed), view(seed + 1000), { slim });
    return { loss: own(loss), perWidth: own(perWidth) };
  };
  const values = async (t: Tensor) => Array.from((await t.data()) as Float32Array);

  /** Embeddings [2n, d] of unit rows. */
  const unit = (n: number, d: number, seed: number): number[][] =>
    Array.from({ length: 2 * n }, (_, r) => {
      const row = Array.from(numbers(d, seed + r));
      return row.map((v) => v / Math.hypot(...row));
    });

  it('looks for the other view among all other embeddings of the batch (NT-Xent, in float64)', async () => {
    const [n, d, T] = [4, 7, 0.1];
    const z = unit(n, d, 1);
    const simclr = make({ temperature: T, dim: d });
    const { loss, perWidth } = scope(() => simclr.contrast([tensor(z.flat(), [2 * n, d])]));
    own(perWidth);
    let expected = 0;
    for (let i = 0; i < 2 * n; i++) {
      const s = z.map((other) => other.reduce((sum, v, j) => sum + v * z[i][j], 0) / T);
      const denominator = s.reduce((sum, v, j) => (j === i ? sum : sum + Math.exp(v)), 0);
      expected += (Math.log(denominator) - s[(i + n) % (2 * n)]) / (2 * n);
    }
    expect(await own(loss).item()).to.be.closeTo(expected, 1e-5);
  });

  it('has gradients through both sides', () => {
    const simclr = make({ temperature: 0.5, distill: 'none' });
    checkGradient(
      (a, b) => simclr.contrast([l2Normalize(a), l2Normalize(b)]).loss,
      [input([6, 7], 3), input([6, 7], 50)],
    );
  });

  it('distils the cosines, without those to itself', async () => {
    // Equal embeddings at both widths: KD is then the entropy of the softmax over 2N - 1 cosines, times T².
    const [n, d, T] = [3, 5, 5];
    const z = unit(n, d, 9);
    const simclr = make({ aux: 1 });
    const { loss, perWidth } = scope(() => {
      const embedding = () => tensor(z.flat(), [2 * n, d], { requiresGrad: true });
      const losses = simclr.contrast([embedding(), embedding()]);
      backward(losses.loss);
      return losses;
    });
    own(loss);
    let entropy = 0;
    for (let i = 0; i < 2 * n; i++) {
      const s = z.filter((_, j) => j !== i).map((other) => other.reduce((sum, v, j) => sum + v * z[i][j], 0) / T);
      const log = Math.log(s.reduce((sum, v) => sum + Math.exp(v), 0));
      entropy -= s.reduce((sum, v) => sum + Math.exp(v - log) * (v - log), 0) / (2 * n);
    }
    expect((await values(own(perWidth)))[1]).to.be.closeTo(T * T * entropy, 1e-3);
  });

  it('runs the full width alone during slow start, and weighs all afterwards', async () => {
    const simclr = make();
    expect(step(simclr, 1, false).perWidth.shape).to.deep.equal([1]);
    expect(simclr.parameters().get('bn1.bn.1.weight')!.grad).to.equal(null);
    const { loss, perWidth } = step(simclr, 2, true);
    const [full, half] = await values(perWidth);
    expect(await loss.item()).to.be.closeTo(1.5 * full + half, 1e-3);
    expect(simclr.parameters().get('bn1.bn.1.weight')!.grad).to.not.equal(null);
  });

  it('continues from its state exactly', async () => {
    const [straight, resumed] = [make({ seed: 1 }), make({ seed: 2 })];
    step(straight, 1, true);
    const state = await straight.state();
    expect([...state.keys()].every((name) => name.startsWith('encoder_q.'))).to.equal(true);
    resumed.loadState(state);
    const [a, b] = [step(straight, 2, true), step(resumed, 2, true)];
    expect(await values(a.perWidth)).to.deep.equal(await values(b.perWidth));
    expect(await resumed.state()).to.deep.equal(await straight.state());
  });

  it('frees what a step made, and everything in the end', async () => {
    await collectGarbage();
    const [x1, x2] = [view(1), view(2)];
    const before = memoryStats().tensors;
    const simclr = new SimCLR({ ...tiny, distill: 'atkd' });
    const run = () => {
      const { loss, perWidth } = simclr.step(x1, x2, { slim: true });
      loss.dispose();
      perWidth.dispose();
      return memoryStats().tensors;
    };
    const first = run(); // gradients and indices are made here
    for (let i = 0; i < 3; i++) expect(run()).to.equal(first);
    simclr.dispose();
    expect(memoryStats().tensors).to.equal(before);
  });

  it('refuses settings that make no sense', () => {
    expect(() => make({ temperature: 0 })).to.throw(RangeError, '[simclr] expected temperature > 0, received 0');
    expect(() => make({ aux: 2 })).to.throw(RangeError, '[simclr] expected aux in [0, 1], received 2');
  });
});
