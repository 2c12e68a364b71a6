import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { MoCoV3, type MoCoV3Options } from '../../lib/methods';
import { memoryStats, randn, scope, tensor, type Tensor } from '../../lib/tensor';

describe('MoCoV3', () => {
  const made: { dispose(): void }[] = [];
  const own = <T extends { dispose(): void }>(x: T): T => (made.push(x), x);
  afterEach(() => {
    for (const x of made.splice(0)) x.dispose();
  });

  const N = 5;
  const tiny = { arch: 'resnet20', baseWidth: 4, widths: [1, 0.5], dim: 6, mlpDim: 8 } as const;
  const make = (options: Partial<MoCoV3Options> = {}) => own(new MoCoV3({ ...tiny, ...options }));
  const view = (seed: number) => own(randn([N, 3, 16, 16], { seed }));
  const step = (moco: MoCoV3, seed: number, slim: boolean, progress = 0) => {
    moco.setProgress(progress);
    const { loss, perWidth } = moco.step(view(seed), view(seed + 1000), { slim });
    return { loss: own(loss), perWidth: own(perWidth) };
  };
  const values = async (t: Tensor) => Array.from((await t.data()) as Float32Array);

  it('starts with equal encoders, and with a predictor of numbers of its own', async () => {
    const moco = make({ seed: 3 });
    const k = moco.momentumEncoder.parameters();
    for (const [name, t] of moco.baseEncoder.parameters()) {
      expect(await values(k.get(name)!), name).to.deep.equal(await values(t));
    }
    expect([...k.values()].some((p) => p.requiresGrad)).to.equal(false);
    const names = [...moco.parameters().keys()];
    expect(names).to.include.members(['base_encoder.conv1.weight', 'predictor.0.weight', 'predictor.3.weight']);
    expect(names.some((name) => name.startsWith('momentum_encoder'))).to.equal(false);
    const other = make({ seed: 3 });
    expect(await other.state()).to.deep.equal(await moco.state());
  });

  it('compares every query with the keys of the other view', async () => {
    const [n, d] = [3, 2];
    const [q, k] = [
      [
        [1, 0],
        [0, 1],
        [0.6, 0.8],
      ],
      [
        [0.8, 0.6],
        [-1, 0],
        [0, 1],
      ],
    ];
    const T = 0.5;
    const moco = make({ temperature: T, dim: d });
    const rows = (x: number[][]) => own(tensor(x.flat(), [x.length, x[0].length]));
    const { loss, perWidth } = scope(() => moco.contrast([rows(q)], rows(k)));
    own(loss);
    let expected = 0;
    for (let i = 0; i < n; i++) {
      const logits = k.map((key) => (key[0] * q[i][0] + key[1] * q[i][1]) / T);
      expected += (Math.log(logits.reduce((sum, v) => sum + Math.exp(v), 0)) - logits[i]) / n;
    }
    expect((await values(own(perWidth)))[0]).to.be.closeTo(2 * T * expected, 1e-5);
  });

  it('adds up both directions', async () => {
    const [a, b] = [make(), make()];
    const [x, y] = [view(1), view(2)];
    const [one, two] = [a.step(x, y, { slim: true }), b.step(y, x, { slim: true })];
    for (const l of [one, two]) made.push(l.loss, l.perWidth);
    const [p, q] = [await values(one.perWidth), await values(two.perWidth)];
    for (const [i, v] of p.entries()) expect(v).to.be.closeTo(q[i], 1e-4);
    // 2 directions of 2·CE over N keys each.
    expect(p[0]).to.be.within(0, 4 * Math.log(N) * 2);
  });

  it('runs the full width alone during slow start, and weighs all afterwards', async () => {
    const moco = make();
    const slow = step(moco, 1, false);
    expect(slow.perWidth.shape).to.deep.equal([1]);
    expect(moco.parameters().get('base_encoder.bn1.bn.1.weight')!.grad).to.equal(null);
    expect(moco.parameters().get('predictor.3.weight')!.grad).to.not.equal(null);
    const { loss, perWidth } = step(moco, 2, true);
    const [full, half] = await values(perWidth);
    expect(await loss.item()).to.be.closeTo(1.5 * full + half, 1e-4);
    expect(moco.parameters().get('base_encoder.bn1.bn.1.weight')!.grad).to.not.equal(null);
  });

  it('raises the momentum to 1 while training goes on', async () => {
    const moco = make({ encoderMomentum: 0.9 });
    for (const [progress, m] of [
      [0, 0.9],
      [0.5, 0.95],
      [1, 1],
    ]) {
      step(moco, 1, false, progress);
      expect(await moco.encoderMomentum.item()).to.be.closeTo(m, 1e-6);
    }
    const name = 'features.2.conv1.weight';
    const [q, k] = [moco.baseEncoder.parameters().get(name)!, moco.momentumEncoder.parameters().get(name)!];
    const before = await values(k);
    q.copyFrom(before.map((v) => v + 1));
    step(moco, 1, false, 1);
    expect(await values(k)).to.deep.equal(before);
    step(moco, 1, false, 0);
    for (const [i, v] of (await values(k)).entries()) expect(v).to.be.closeTo(before[i] + 0.1, 1e-5);
  });

  it('continues from its state exactly', async () => {
    const [straight, resumed] = [make({ seed: 1 }), make({ seed: 2 })];
    step(straight, 1, true);
    resumed.loadState(await straight.state());
    const [a, b] = [step(straight, 2, true), step(resumed, 2, true)];
    expect(await values(a.perWidth)).to.deep.equal(await values(b.perWidth));
    expect(await resumed.state()).to.deep.equal(await straight.state());
    expect(() => make({ dim: 7 }).loadState(new Map())).to.throw(/do not fit MoCo v3 on resnet20; missing/);
  });

  it('frees what a step made, and everything in the end', async () => {
    await collectGarbage();
    const [x1, x2] = [view(1), view(2)];
    const before = memoryStats().tensors;
    const moco = new MoCoV3({ ...tiny, distill: 'dkd' });
    const run = () => {
      const { loss, perWidth } = moco.step(x1, x2, { slim: true });
      loss.dispose();
      perWidth.dispose();
      return memoryStats().tensors;
    };
    const first = run(); // gradients and indices are made here
    for (let i = 0; i < 3; i++) expect(run()).to.equal(first);
    moco.dispose();
    expect(memoryStats().tensors).to.equal(before);
  });

  it('refuses settings that make no sense', () => {
    expect(() => make({ temperature: -1 })).to.throw(RangeError, '[moco-v3] expected temperature > 0, received -1');
    expect(() => make({ encoderMomentum: 1 })).to.throw(RangeError, 'expected encoderMomentum in [0, 1), received 1');
    expect(() => make({ distill: 'all' as 'none' })).to.throw(RangeError, 'received all');
  });
});
