// A convolution may keep what it packed of a weight (CUDA does): never beyond the weight's next change.
import { expect } from 'chai';
import { native } from '../../lib/native';
import type { NativeTensor } from '../../lib/native-addon';
import {
  adamw,
  clipGradNorm,
  ema,
  enqueue,
  fill,
  full,
  getDefaultDevice,
  lars,
  memoryStats,
  packWeights,
  record,
  rescale,
  scope,
  sgd,
  synchronize,
  tensor,
  unscale,
  updateScale,
  zeros,
  Tensor,
  type DType,
} from '../../lib/tensor';
import { collectGarbage } from '../garbage';
import { numbers, random } from './gradient-check';

type Shape = readonly number[];
const values = (t: Tensor) => Array.from(t.dataSync(), Number);
const types = (['float32', 'bfloat16', 'float16'] as const).filter(
  (type) => native.unsupported(getDefaultDevice(), type) === null,
);
const full1 = (value: number) => full([1], value);

/** The weight's slices of both widths, and what convolutions make of each, forward and backward, as tensors. */
function convolve(weight: Tensor, type: DType, widths: readonly number[] = [1, 0.5]): Tensor[] {
  const [o, i, kernel] = weight.shape;
  return widths.flatMap((width) => {
    const [out, channels] = [o, i].map((n) => Math.max(1, Math.ceil(n * width)));
    const shape = [2, channels, 5, 3];
    const as = (t: Tensor) => new Tensor(native.cast(t.handle, type)).handle;
    const padding = (kernel - 1) / 2;
    const y = native.conv2d(as(random(shape, 7)), weight.handle, out, channels, 1, padding);
    const dx = native.conv2dBackwardData(as(random([2, out, 5, 3], 8)), weight.handle, shape, 1, padding);
    return [new Tensor(y), new Tensor(dx)];
  });
}

/** The same with a weight that no convolution has seen. */
const convolveAnew = (weight: Tensor, type: DType, widths?: readonly number[]) =>
  convolve(tensor(weight.dataSync(), weight.shape), type, widths);

describe(`packed weights on ${getDefaultDevice()}`, () => {
  const like = (w: Tensor, seed = 5) => random(w.shape, seed);
  const viewed = (w: Tensor, shape: Shape) => new Tensor(native.reshape(w.handle, shape));
  const lr = () => full1(0.1);
  const adam = (w: Tensor, which: 'parameter' | 'average' | 'square' | 'step') => {
    const item = which === 'step' ? like(viewed(w, [1])) : like(w);
    const state = { expAvgs: [fill0(item)], expAvgSqs: [fill0(item)], steps: [full1(0)] };
    if (which === 'average') state.expAvgs = [w];
    if (which === 'square') state.expAvgSqs = [w];
    if (which === 'step') state.steps = [viewed(w, [1])];
    adamw([which === 'parameter' ? w : like(item)], [like(item, 6)], state, {
      lr: lr(),
      beta1: 0.9,
      beta2: 0.999,
      eps: 1e-8,
      weightDecay: 0.01,
    });
  };
  const fill0 = (t: Tensor) => zeros(t.shape);
  const decay = { momentum: 0.9, weightDecay: 0.1 };
  const layer = (c: number) => [1, 2, 3, 4].map((seed) => random([c], seed).handle);
  const batch = (c: number): NativeTensor => random([3, c, 2, 2], 9).handle;
  const norm = (w: Tensor, which: 0 | 1) => {
    const [weight, bias, ...running] = layer(8);
    running[which] = viewed(w, [8]).handle;
    native.batchNorm(batch(8), weight, bias, running[0], running[1], null, true, false, false, 0.1, 1e-5);
  };
  const normBackward = (w: Tensor, which: 0 | 1) => {
    const [weight, bias, mean, rstd] = layer(8);
    const gradients = [random([8], 5).handle, random([8], 6).handle];
    gradients[which] = viewed(w, [8]).handle;
    const [x, dy] = [batch(8), random([3, 8, 2, 2], 10).handle];
    const [dweight, dbias] = gradients;
    const rest = [false, true, false, false, 0.1, 1e-5] as const;
    native.batchNormBackward(x, null, dy, null, weight, bias, mean, rstd, dweight, dbias, ...rest);
  };

  /** Every way to write into a tensor: the weight's shape, and the write. */
  const writes: Record<string, [shape: Shape, write: (w: Tensor) => unknown]> = {
    'copyFrom of numbers': [[8, 12, 3, 3], (w) => w.copyFrom(numbers(w.size, 3))],
    'copyFrom of a tensor': [[8, 12, 3, 3], (w) => w.copyFrom(like(w))],
    'fill with 0': [[8, 12, 3, 3], (w) => fill([w], 0)],
    'fill with another number': [[8, 12, 3, 3], (w) => fill([w], 0.25)],
    'fill of several': [[8, 12, 3, 3], (w) => fill([like(w), w], 0)],
    accumulate: [[5, 3, 3, 3], (w) => native.accumulate(like(w).handle, w.handle)],
    'sgd, the parameter': [
      [8, 12, 3, 3],
      (w) => sgd([like(w), w], [w, w].map(like), [w, w].map(fill0), { lr: lr(), ...decay }),
    ],
    'sgd, the momentum': [[8, 12, 3, 3], (w) => sgd([like(w)], [like(w)], [w], { lr: lr(), ...decay })],
    'lars, the parameter': [
      [8, 12, 3, 3],
      (w) => lars([w], [like(w)], [fill0(w)], { lr: lr(), ...decay, trustCoefficient: 1 }),
    ],
    'lars, the momentum': [
      [8, 12, 3, 3],
      (w) => lars([like(w)], [like(w)], [w], { lr: lr(), ...decay, trustCoefficient: 1 }),
    ],
    'adamw, the parameter': [[8, 12, 3, 3], (w) => adam(w, 'parameter')],
    'adamw, the average': [[8, 12, 3, 3], (w) => adam(w, 'average')],
    'adamw, the average of squares': [[8, 12, 3, 3], (w) => adam(w, 'square')],
    'adamw, the step': [[1, 1, 1, 1], (w) => adam(w, 'step')],
    rescale: [[8, 12, 3, 3], (w) => rescale([like(w), w], 0.5)],
    clipGradNorm: [[8, 12, 3, 3], (w) => clipGradNorm([w], 0.1)],
    unscale: [[8, 12, 3, 3], (w) => unscale([w], full1(4))],
    updateScale: [
      [1, 1, 1, 1],
      (w) => {
        const rule = { growth: 2, backoff: 0.5, interval: 10 };
        updateScale(viewed(w, [1]), zeros([1], { dtype: 'int64' }), full1(1), rule);
      },
    ],
    'ema, the target': [[8, 12, 3, 3], (w) => ema([w], [like(w)], full1(0.9))],
    'ema, the source as well': [[8, 12, 3, 3], (w) => ema([like(w), w], [w, like(w)], full1(0.9))],
    enqueue: [[8, 12, 1, 1], (w) => enqueue(viewed(w, [8, 12]), random([3, 12], 4), zeros([1], { dtype: 'int64' }))],
    conv2dBackwardWeight: [
      [8, 12, 3, 3],
      (w) =>
        native.conv2dBackwardWeight(random([2, 5, 4, 4], 3).handle, random([2, 7, 4, 4], 4).handle, w.handle, 1, 1),
    ],
    'linearBackwardWeight, the weight': [
      [8, 12, 1, 1],
      (w) =>
        native.linearBackwardWeight(
          random([3, 12], 3).handle,
          random([3, 8], 4).handle,
          viewed(w, [8, 12]).handle,
          null,
        ),
    ],
    'linearBackwardWeight, the bias': [
      [8, 1, 1, 1],
      (w) => {
        const [x, dy] = [random([3, 5], 3), random([3, 8], 4)];
        native.linearBackwardWeight(x.handle, dy.handle, random([8, 5], 5).handle, viewed(w, [8]).handle);
      },
    ],
    'batchNorm, the mean': [[8, 1, 1, 1], (w) => norm(w, 0)],
    'batchNorm, the variance': [[8, 1, 1, 1], (w) => norm(w, 1)],
    'batchNormBackward, the weight': [[8, 1, 1, 1], (w) => normBackward(w, 0)],
    'batchNormBackward, the bias': [[8, 1, 1, 1], (w) => normBackward(w, 1)],
    'another name of it': [[8, 12, 3, 3], (w) => fill([w.detach()], 0.5)],
    'a replay': [
      [8, 12, 3, 3],
      (w) => {
        const recording = record(() => rescale([w], 0.5));
        convolve(w, 'float32'); // nothing was run yet, and this is before it
        recording.replay();
        recording.dispose();
      },
    ],
    'a second replay': [
      [8, 12, 3, 3],
      (w) => {
        const recording = record(() => rescale([w], 0.5));
        recording.replay();
        convolve(w, 'float32');
        recording.replay();
        recording.dispose();
      },
    ],
    'an op whose arguments run a convolution first': [
      [8, 12, 3, 3],
      (w) => {
        const tensors = [w.handle, like(w).handle];
        const second = tensors[1];
        Object.defineProperty(tensors, 1, { get: () => (convolve(w, 'float32'), second) });
        native.fill(tensors, 0);
      },
    ],
  };
  for (const [what, [shape, write]] of Object.entries(writes)) {
    it(`are not used after ${what}`, () => {
      scope(() => {
        const w = random(shape, 2);
        const before = convolve(w, 'float32');
        write(w);
        const after = convolve(w, 'float32').map(values);
        expect(after).eql(convolveAnew(w, 'float32').map(values));
        expect(after).not.eql(before.map(values));
      });
    });
  }

  it('are kept apart by width, type and weight', () => {
    scope(() => {
      const weights = [random([24, 20, 3, 3], 1), random([24, 20, 3, 3], 2)];
      const rounds = [1, 2].map(() =>
        [1, 0.25, 0.75, 0.5].flatMap((width) =>
          types.flatMap((type) => weights.flatMap((w) => convolve(w, type, [width]).map(values))),
        ),
      );
      const expected = [1, 0.25, 0.75, 0.5].flatMap((width) =>
        types.flatMap((type) => weights.flatMap((w) => convolveAnew(w, type, [width]).map(values))),
      );
      for (const round of rounds) expect(round).eql(expected);
    });
  });

  it('are those of the shape that the weight is seen in', () => {
    scope(() => {
      const w = random([6, 4, 3, 3], 1);
      const other = viewed(w, [4, 6, 3, 3]);
      for (let i = 0; i < 2; i++)
        for (const t of [w, other])
          expect(convolve(t, 'float32').map(values)).eql(convolveAnew(t, 'float32').map(values));
    });
  });

  // What a recording may hold comes from outside.
  const inputs = (type: DType, widths: readonly number[]) =>
    new Map(widths.map((width) => [width, new Tensor(native.cast(random([2, 20 * width, 5, 3], 4).handle, type))]));

  /**
   * Steps as MoCo's, in two phases by turns: the key encoder moves, both convolve, the query's weight is trained. Between
   * them convolutions and other writes. `touch`: no packed slice is used twice, since other ops are given the weights.
   * `together`: the slices of a weight are packed in one launch.
   *
   * @returns every result, and the weights
   */
  const train = (type: DType, options: { touch?: boolean; recorded?: boolean; together?: boolean }): number[][] => {
    const { touch = false, recorded = false, together = false } = options;
    const widths = [1, 0.75, 0.5, 0.25];
    const xs = inputs(type, widths);
    const [query, key] = [random([12, 20, 3, 3], 1), random([12, 20, 3, 3], 2)];
    const [gradient, momentum, rate, m] = [zeros(query.shape), zeros(query.shape), full1(1e-3), full1(0.9)];
    const pause = () => {
      if (touch) for (const w of [query, key]) w.detach().dispose();
    };
    const step = (active: readonly number[]) => {
      ema([key], [query], m);
      fill([gradient], 0);
      pause();
      if (together) {
        const slices = active.map((width) => ({ weight: query, outChannels: 12 * width, inChannels: 20 * width }));
        packWeights([...slices, slices[0], { weight: key, outChannels: 12, inChannels: 20 }], type);
      }
      const out = [native.conv2d(xs.get(1)!.handle, key.handle, 12, 20, 1, 1)];
      for (let part = 0; part < 2; part++)
        for (const width of active) {
          const x = xs.get(width)!.handle;
          pause();
          const y = native.conv2d(x, query.handle, 12 * width, 20 * width, 1, 1);
          pause();
          const dx = native.conv2dBackwardData(y, query.handle, [2, 20 * width, 5, 3], 1, 1);
          native.conv2dBackwardWeight(x, y, gradient.handle, 1, 1);
          out.push(y, dx);
        }
      sgd([query], [gradient], [momentum], { lr: rate, momentum: 0.9, weightDecay: 1e-4 });
      return out.map((t) => new Tensor(t));
    };
    const seen: number[][] = [];
    const look = (out: readonly Tensor[]) => seen.push(...[...out, query, key].map(values));
    const evaluate = () => look([query, key].flatMap((w) => convolve(w, type)));
    look(step([1]));
    const phases = [[1], widths].map((active) => {
      if (!recorded) return () => step(active);
      const recording = record(() => step(active));
      return () => (recording.replay(), recording.result);
    });
    for (const phase of [0, 0, 1, 1, 0, 1]) {
      evaluate();
      look(phases[phase]());
      evaluate();
      rescale([query], 0.9);
    }
    return seen;
  };

  for (const type of types)
    it(`give training in ${type} bit for bit what packing at every use gives, recorded or not`, () => {
      scope(() => {
        const expected = train(type, { touch: true });
        expect(expected.flat()).satisfy((all: number[]) => all.every(Number.isFinite));
        for (const recorded of [false, true])
          for (const together of [false, true]) expect(train(type, { recorded, together })).eql(expected);
      });
    });

  it('are packed together where arguments are right, else not at all', () => {
    scope(() => {
      const [w, other] = [random([8, 12, 3, 3], 1), random([8, 12], 2)];
      const pack = (...args: unknown[]) => (native.packWeights as (...args: unknown[]) => void)(...args);
      const bad: [RegExp, unknown[]][] = [
        [/expected weight of 4 dimensions/, [[w.handle, other.handle], [8, 8], [12, 12], 'float32']],
        [/expected outChannels in 1…8 .* received 9/, [[w.handle], [9], [12], 'float32']],
        [/expected inChannels in 1…12 .* received 0/, [[w.handle], [8], [0], 'float32']],
        [/one of each per weight, received 1 and 2/, [[w.handle], [8], [12, 12], 'float32']],
        [/expected dtype to be a floating type, received int32/, [[w.handle], [8], [12], 'int32']],
        [/expected weights to be an array/, [w.handle, [8], [12], 'float32']],
        [/expected weights\[0\] to be a tensor/, [[{}], [8], [12], 'float32']],
        [/expected outChannels to be an integer/, [[w.handle], [0.5], [12], 'float32']],
      ];
      for (const [message, args] of bad) expect(() => pack(...args)).throw(message);
      packWeights([], 'bfloat16');
    });
  });

  it('of a recording are packed at each replay', () => {
    scope(() => {
      const w = random([12, 20, 3, 3], 1);
      convolve(w, 'float32');
      const xs = inputs('float32', [1]);
      const recording = record(() => {
        const x = xs.get(1)!.handle;
        return [1, 2].map(() => new Tensor(native.conv2d(x, w.handle, 12, 20, 1, 1)));
      });
      const other = random([12, 20, 3, 3], 2);
      convolve(other, 'float32'); // takes memory that the recording has no right to
      for (const seed of [3, 4, 5]) {
        w.copyFrom(numbers(w.size, seed));
        const eager = values(new Tensor(native.conv2d(xs.get(1)!.handle, w.handle, 12, 20, 1, 1)));
        recording.replay();
        for (const y of recording.result) expect(values(y)).eql(eager);
      }
    });
  });

  it('of a weight made within a recording follow it', () => {
    scope(() => {
      const [x, one] = [random([2, 8, 5, 3], 3), full([8, 8, 1, 1], 1)];
      const recording = record(() => {
        const w = native.clone(one.handle);
        native.accumulate(one.handle, w);
        return [w, native.conv2d(x.handle, w, 8, 8, 1, 0)].map((t) => new Tensor(t));
      });
      const [w, y] = recording.result;
      for (const v of [1, 3]) {
        fill([one], v);
        recording.replay();
        const anew = values(new Tensor(native.conv2d(x.handle, full([8, 8, 1, 1], 2 * v).handle, 8, 8, 1, 0)));
        expect(values(y)).eql(anew);
        expect(values(new Tensor(native.conv2d(x.handle, w.handle, 8, 8, 1, 0)))).eql(anew);
        rescale([w], 1); // the next replay would not know of what is packed from here on
        expect(values(new Tensor(native.conv2d(x.handle, w.handle, 8, 8, 1, 0)))).eql(anew);
      }
    });
  });

  it('are counted, and go with the weight, with its next change and with a recording', async () => {
    await collectGarbage();
    const kept = getDefaultDevice() === 'cpu' ? 0 : 1; // the CPU keeps none
    const use = (w: Tensor) => scope(() => void convolve(w, 'float32'));
    const start = memoryStats();
    const [w, x] = [random([12, 20, 3, 3], 1), random([2, 20, 5, 3], 2)];
    const before = memoryStats();
    const packed = () => memoryStats().tensors - before.tensors;
    for (let i = 0; i < 3; i++) {
      use(w);
      expect(packed()).equal(2 * kept); // two widths
    }
    // Channels go in packs of 8.
    expect(memoryStats().bytes - before.bytes).equal(kept * 4 * 9 * (16 * 24 + 8 * 16));
    // A key encoder follows the query's weights between their two passes.
    scope(() => ema([zeros(w.shape)], [w], full1(0.5)));
    expect(packed()).equal(2 * kept);
    rescale([w], 0.5);
    expect(memoryStats()).include({ tensors: before.tensors, bytes: before.bytes });
    const slices = [1, 0.5].map((width) => ({ weight: w, outChannels: 12 * width, inChannels: 20 * width }));
    packWeights(slices, 'float32');
    expect(packed()).equal(2 * kept);
    use(w);
    expect(packed()).equal(2 * kept);
    rescale([w], 0.5);
    expect(memoryStats()).include({ tensors: before.tensors, bytes: before.bytes });

    use(w);
    const recording = record(() => {
      native.conv2d(x.handle, w.handle, 12, 20, 1, 1).dispose();
      expect(packed()).equal(kept);
    });
    expect(packed()).equal(0);
    use(w);
    expect(packed()).equal(2 * kept);
    recording.replay();
    expect(packed()).equal(0);
    recording.dispose();
    use(w);
    w.dispose();
    x.dispose();
    await synchronize();
    await collectGarbage();
    expect(memoryStats()).include({ tensors: start.tensors, bytes: start.bytes });
  });

  it('that a failure kept from being filled are filled later', async function () {
    // Only the emulator's cuDNN fails on demand, and only where nothing is tuned does a task run it first.
    const emulated = getDefaultDevice() !== 'cpu' && native.deviceInfo(getDefaultDevice())['name'] === 'emulated GPU';
    if (!emulated || process.env['SLIMCLR_CUDA_AUTOTUNE'] !== '0') this.skip();
    const w = random([8, 8, 3, 3], 1);
    const bad = [random([1, 1, 29, 29], 2), random([1, 1, 29, 29], 3)];
    scope(() => {
      new Tensor(native.conv2d(bad[0].handle, bad[1].handle, 1, 1, 1, 0));
      convolve(w, 'float32');
    });
    expect(await synchronize().catch((e: Error) => e.message)).match(/\[conv2d\] a convolution: an emulated failure/);
    scope(() => {
      const found = convolve(w, 'float32').map(values);
      expect(found).eql(convolveAnew(w, 'float32').map(values));
    });
    for (const t of [w, ...bad]) t.dispose();
  });
});
