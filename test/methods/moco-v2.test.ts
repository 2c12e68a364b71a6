import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { MoCoV2, type MoCoV2Options } from '../../lib/methods';
import { l2Normalize, memoryStats, noGrad, randn, scope, tensor, type Tensor } from '../../lib/tensor';

describe('MoCoV2', () => {
  const made: { dispose(): void }[] = [];
  const own = <T extends { dispose(): void }>(x: T): T => (made.push(x), x);
  afterEach(() => {
    for (const x of made.splice(0)) x.dispose();
  });

  const K = 10;
  const N = 4;
  const make = (options: Partial<MoCoV2Options> = {}) =>
    own(new MoCoV2({ arch: 'resnet20', baseWidth: 4, widths: [1, 0.5], dim: 6, queueSize: K, ...options }));
  const view = (seed: number) => own(randn([N, 3, 16, 16], { seed }));
  const step = (moco: MoCoV2, seed: number, slim: boolean) => {
    const { loss, perWidth } = moco.step(view(seed), view(seed + 1000), { slim });
    return { loss: own(loss), perWidth: own(perWidth) };
  };
  const values = async (t: Tensor) => Array.from((await t.data()) as Float32Array);
  const rows = async (moco: MoCoV2) => {
    const v = await values(moco.queue);
    return Array.from({ length: K }, (_, r) => v.slice(6 * r, 6 * r + 6));
  };

  it('starts with equal encoders and unit negatives, the same for a seed', async () => {
    const moco = make({ seed: 3 });
    const [q, k] = [moco.encoderQ.parameters(), moco.encoderK.parameters()];
    for (const [name, t] of q) expect(await values(k.get(name)!), name).to.deep.equal(await values(t));
    expect([...k.values()].some((p) => p.requiresGrad)).to.equal(false);
    const negatives = await rows(moco);
    for (const row of negatives) expect(Math.hypot(...row)).to.be.closeTo(1, 1e-5);
    expect(await rows(make({ seed: 3 }))).to.deep.equal(negatives);
    expect(await rows(make({ seed: 4 }))).to.not.deep.equal(negatives);
  });

  it('runs the full width alone during slow start, with weight 1', async () => {
    const moco = make();
    const { loss, perWidth } = step(moco, 1, false);
    expect(perWidth.shape).to.deep.equal([1]);
    expect(await loss.item()).to.be.closeTo((await values(perWidth))[0], 1e-6);
    expect(moco.parameters().get('bn1.bn.0.weight')!.grad).to.not.equal(null);
    expect(moco.parameters().get('bn1.bn.1.weight')!.grad).to.equal(null);
  });

  it('weighs the losses of all widths afterwards', async () => {
    const moco = make({ lossWeighting: 5 });
    const { loss, perWidth } = step(moco, 1, true);
    const [full, half] = await values(perWidth);
    expect(await loss.item()).to.be.closeTo(1.5 * full + half, 1e-4);
    expect(moco.parameters().get('bn1.bn.1.weight')!.grad).to.not.equal(null);
  });

  it('without distillation gives the sub-networks InfoNCE alone', async () => {
    const [with_, without] = [make(), make({ distill: 'none' })];
    const [a, b] = [step(with_, 1, true), step(without, 1, true)];
    const [kd, nce] = [await values(a.perWidth), await values(b.perWidth)];
    expect(kd[0]).to.be.closeTo(nce[0], 1e-5);
    // KD's term is T² times an entropy of nearly log(K + 1): half of 25·log 11 stands beside half of InfoNCE.
    expect(kd[1]).to.be.closeTo(0.5 * nce[1] + 0.5 * 25 * Math.log(K + 1), 1);
    expect(nce[1]).to.be.below(10);
  });

  it('averages the key encoder with the weights before the optimizer step, BatchNorm statistics apart', async () => {
    const moco = make({ encoderMomentum: 0.9 });
    const name = 'features.2.conv1.weight';
    const [q, k] = [moco.encoderQ.parameters().get(name)!, moco.encoderK.parameters().get(name)!];
    const before = await values(k);
    const moved = before.map((v) => v + 1);
    q.copyFrom(moved);
    step(moco, 1, false);
    for (const [i, v] of (await values(k)).entries()) expect(v).to.be.closeTo(0.9 * before[i] + 0.1 * moved[i], 1e-5);
    expect(await values(q)).to.deep.equal(moved.map(Math.fround));

    // The statistics come from the key encoder's own forward pass, at full width.
    const mean = (encoder: 'encoderQ' | 'encoderK', i: number) =>
      values(moco[encoder].buffers().get(`bn1.bn.${i}.running_mean`)!);
    expect(await mean('encoderK', 0)).to.not.deep.equal(await mean('encoderQ', 0));
    step(moco, 2, true);
    expect((await mean('encoderQ', 1)).some((v) => v !== 0)).to.equal(true);
    expect((await mean('encoderK', 1)).every((v) => v === 0)).to.equal(true);
  });

  it('replaces the oldest keys and wraps around where the batch does not divide the queue', async () => {
    const moco = make();
    const initial = await rows(moco);
    const changed = async (before: number[][]) =>
      (await rows(moco)).flatMap((row, r) => (row.join() === before[r].join() ? [] : [r]));
    step(moco, 1, false);
    expect(await changed(initial)).to.deep.equal([0, 1, 2, 3]);
    step(moco, 2, true);
    expect(await changed(initial)).to.deep.equal([0, 1, 2, 3, 4, 5, 6, 7]);
    const second = await rows(moco);
    step(moco, 3, true); // rows 8, 9, then 0, 1
    expect(await changed(second)).to.deep.equal([0, 1, 8, 9]);
    expect(await moco.queuePointer.item()).to.equal(2);
    for (const row of await rows(moco)) expect(Math.hypot(...row)).to.be.closeTo(1, 1e-5);
  });

  it('compares with the queue as it was before the step', async () => {
    // With one negative, equal to the key, in the queue the loss would be log 2; the old negative decides.
    const [a, b] = [make({ queueSize: N }), make({ queueSize: N })];
    b.queue.copyFrom((await values(b.queue)).map((v) => -v));
    const [x, y] = [step(a, 1, false), step(b, 1, false)];
    expect(await x.loss.item()).to.not.be.closeTo(await y.loss.item(), 1e-4);
    expect(await values(a.queue)).to.deep.equal(await values(b.queue));
  });

  describe('symmetric', () => {
    it('adds both directions against the old queue, and takes the keys of both views', async () => {
      const [x, y] = [view(1), view(2)];
      const options = { slim: true };
      const [both, one, other] = [make({ symmetric: true }), make(), make()];
      const [ab, a, b] = [both.step(x, y, options), one.step(x, y, options), other.step(y, x, options)];
      for (const l of [ab, a, b]) made.push(l.loss, l.perWidth);
      const [sum, first, second] = [await values(ab.perWidth), await values(a.perWidth), await values(b.perWidth)];
      for (const [i, l] of sum.entries()) expect(l).to.be.closeTo(first[i] + second[i], 1e-3);
      expect(await ab.loss.item()).to.be.closeTo((await a.loss.item()) + (await b.loss.item()), 1e-3);

      const [queue, keysOfY, keysOfX] = [await rows(both), await rows(one), await rows(other)];
      const near = (actual: number[][], expected: number[][]) =>
        actual.flat().forEach((v, i) => expect(v).to.be.closeTo(expected.flat()[i], 1e-5));
      near(queue.slice(0, N), keysOfX.slice(0, N));
      near(queue.slice(N, 2 * N), keysOfY.slice(0, N));
      expect(await both.queuePointer.item()).to.equal(2 * N);
    });
  });

  describe('batchNormSplits', () => {
    it('normalises groups apart, the keys in another order than the queries', async () => {
      const [whole, split] = [make({ seed: 5, queueSize: N }), make({ seed: 5, queueSize: N, batchNormSplits: 2 })];
      const [a, b] = [step(whole, 1, true), step(split, 1, true)];
      expect(await values(a.perWidth)).to.not.deep.equal(await values(b.perWidth));

      // The groups that the key encoder saw: pictures alone with those of one other give each key.
      const x = view(1 + 1000);
      const pictures = (await x.data()) as Float32Array;
      const size = pictures.length / N;
      const pairKeys = async (i: number, j: number) => {
        const encoder = make({ seed: 5 }).encoderK;
        const pair = own(
          tensor(
            [...pictures.subarray(i * size, (i + 1) * size), ...pictures.subarray(j * size, (j + 1) * size)],
            [2, 3, 16, 16],
          ),
        );
        const k = await values(own(scope(() => noGrad(() => l2Normalize(encoder.forward(pair, 0))))));
        return [k.slice(0, 6), k.slice(6)];
      };
      const keys = Array.from({ length: N }, async (_, r) => (await values(split.queue)).slice(6 * r, 6 * r + 6));
      const found: number[][] = [];
      for (let i = 0; i < N; i++) {
        for (let j = i + 1; j < N; j++) {
          const [ki, kj] = await pairKeys(i, j);
          const matches = async (k: number[], r: number) =>
            (await keys[r]).every((v, c) => Math.abs(v - (k[c] ?? NaN)) < 1e-4);
          if ((await matches(ki, i)) && (await matches(kj, j))) found.push([i, j]);
        }
      }
      // Each picture in one group of two.
      expect(found.flat().sort()).to.deep.equal([0, 1, 2, 3]);
    });

    it('draws other groups every time, and goes on with them where it left', async () => {
      const options = { batchNormSplits: 2, queueSize: N };
      const [straight, resumed] = [make({ ...options, seed: 1 }), make({ ...options, seed: 1 })];
      const orders = new Set<string>();
      for (let i = 0; i < 6; i++) {
        step(straight, 1, false);
        orders.add((await values(straight.queue)).map((v) => v.toFixed(3)).join());
      }
      expect(orders.size).to.be.above(1);
      const state = await straight.state();
      expect(state.get('batch_shuffles')).to.deep.include({ dtype: 'I64', data: BigInt64Array.of(6n) });
      resumed.loadState(state);
      for (const s of [1, 2]) {
        const [a, b] = [step(straight, s, true), step(resumed, s, true)];
        expect(await values(a.perWidth)).to.deep.equal(await values(b.perWidth));
      }
      expect(await resumed.state()).to.deep.equal(await straight.state());
      state.delete('batch_shuffles');
      expect(() => resumed.loadState(state)).to.throw(RangeError, 'expected batch_shuffles to be a count');
    });

    it('has gradients for every group', async () => {
      const moco = make({ batchNormSplits: 2, widths: [1] });
      step(moco, 1, true);
      const gradient = await values(moco.parameters().get('conv1.weight')!.grad!);
      expect(Math.hypot(...gradient)).to.be.above(0);
      expect(() => step(make({ batchNormSplits: 3 }), 1, false)).to.throw(
        RangeError,
        'at least 2 pictures in each of 3 batchNormSplits, received 4',
      );
    });
  });

  it('stores similarities for the other distillations only, with the same InfoNCE', async () => {
    const [fused, stored] = [make(), make({ distill: 'mse-logits', aux: 0 })];
    const none = make({ distill: 'none' });
    const [a, b, c] = [step(fused, 1, true), step(stored, 1, true), step(none, 1, true)];
    expect((await values(b.perWidth))[0]).to.be.closeTo((await values(a.perWidth))[0], 1e-5);
    const [x, y] = [await values(b.perWidth), await values(c.perWidth)];
    for (const [i, l] of x.entries()) expect(l).to.be.closeTo(y[i], 1e-5);
    const gradient = async (m: MoCoV2) => values(m.parameters().get('features.0.conv1.weight')!.grad!);
    const [g, h] = [await gradient(stored), await gradient(none)];
    for (const [i, v] of g.entries()) expect(v).to.be.closeTo(h[i], 1e-3 * Math.hypot(...h));
  });

  describe('state', () => {
    it('has the names of the released checkpoints, and the queue as [dim, K]', async () => {
      const state = await make().state();
      const names = [
        'queue',
        'queue_ptr',
        'encoder_q.conv1.weight',
        'encoder_k.fc.2.bias',
        'encoder_q.bn1.bn.0.running_mean',
      ];
      expect([...state.keys()]).to.include.members(names);
      expect(state.get('queue')).to.deep.include({ dtype: 'F32', shape: [6, K] });
      expect(state.get('queue_ptr')).to.deep.include({ dtype: 'I64', shape: [1] });
    });

    it('continues a run exactly', async () => {
      const [straight, resumed] = [make({ seed: 1 }), make({ seed: 2 })];
      step(straight, 1, true);
      resumed.loadState(await straight.state());
      expect(await values(resumed.queue)).to.deep.equal(await values(straight.queue));
      const [a, b] = [step(straight, 2, true), step(resumed, 2, true)];
      expect(await values(a.perWidth)).to.deep.equal(await values(b.perWidth));
      expect(await resumed.state()).to.deep.equal(await straight.state());
    });

    it('that does not fit is refused', async () => {
      const moco = make();
      const state = await moco.state();
      const load = (change: (s: typeof state) => void) => () => {
        const s = new Map(state);
        change(s);
        moco.loadState(s);
      };
      const pointer = (at: bigint) => ({ dtype: 'I64', shape: [1], data: BigInt64Array.of(at) }) as const;
      expect(load((s) => s.delete('queue'))).to.throw(/do not fit MoCo v2 on resnet20; missing: queue;/);
      expect(load((s) => s.set('queue', { dtype: 'F32', shape: [K, 6], data: new Float32Array(6 * K) }))).to.throw(
        /expected queue \[6, 10\], received \[10, 6\]; use the dim and the queue size/,
      );
      for (const at of [-1n, BigInt(K)]) {
        expect(load((s) => s.set('queue_ptr', pointer(at)))).to.throw(
          RangeError,
          `queue_ptr in [0, ${K}), received ${at}`,
        );
      }
    });
  });

  for (const options of [{}, { symmetric: true, batchNormSplits: 2, distill: 'dkd' as const }])
    it(`frees what a step made, and everything in the end: ${JSON.stringify(options)}`, async () => {
      await collectGarbage();
      const [xq, xk] = [view(1), view(2)];
      const before = memoryStats().tensors;
      const moco = new MoCoV2({ arch: 'resnet20', baseWidth: 4, dim: 6, queueSize: K, ...options });
      const run = () => {
        const { loss, perWidth } = moco.step(xq, xk, { slim: true });
        loss.dispose();
        perWidth.dispose();
        return memoryStats().tensors;
      };
      const first = run(); // gradients are made here
      for (let i = 0; i < 3; i++) expect(run()).to.equal(first);
      moco.dispose();
      expect(memoryStats().tensors).to.equal(before);
    });

  it('refuses settings that make no sense', () => {
    const refuse = (options: Partial<MoCoV2Options>, message: string) =>
      expect(() => make(options)).to.throw(RangeError, message);
    refuse({ temperature: 0 }, '[moco-v2] expected temperature > 0, received 0');
    refuse({ studentTemperature: NaN }, 'expected studentTemperature > 0, received NaN');
    refuse({ encoderMomentum: 1 }, 'expected encoderMomentum in [0, 1), received 1');
    refuse({ aux: 1.1 }, 'expected aux in [0, 1], received 1.1');
    refuse({ queueSize: 2.5 }, 'expected queueSize to be a positive integer, received 2.5');
    refuse({ lossWeighting: 4 as 5 }, 'received 4');
    refuse({ distill: 'all' as 'none' }, 'dkd, none, received all');
    refuse({ batchNormSplits: 0 }, 'expected batchNormSplits to be a positive integer, received 0');
  });
});
