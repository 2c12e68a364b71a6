import { expect } from 'chai';
import {
  adamw,
  clipGradNorm,
  ema,
  enqueue,
  fill,
  lars,
  getNumThreads,
  rescale,
  scope,
  setNumThreads,
  sgd,
  tensor,
  zeros,
  type Tensor,
} from '../../lib/tensor';
import { numbers, random } from './gradient-check';

const f32 = (t: Tensor): Float32Array => t.dataSync() as Float32Array;

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(actual.length).equal(expected.length);
  for (let i = 0; i < expected.length; i++) {
    if (!(Math.abs(actual[i] - expected[i]) <= tolerance))
      expect(actual[i], `element ${i}`).closeTo(expected[i], tolerance);
  }
}

describe('sgd', () => {
  const sizes = [1, 7, 1000, 16, 33];

  interface Options {
    momentum: number;
    nesterov: boolean;
    weightDecay: number | number[];
    lr: number;
  }

  /** Six steps with a gradient per step, natively and in float64. */
  function compare({ momentum, nesterov, weightDecay, lr }: Options): void {
    scope(() => {
      const params = sizes.map((n, i) => random([n], i + 1));
      const buffers = sizes.map((n) => zeros([n]));
      const rate = zeros([1]);
      const p64 = params.map((p) => Float64Array.from(f32(p)));
      const m64 = sizes.map((n) => new Float64Array(n));
      for (let step = 0; step < 6; step++) {
        const now = lr / (step + 1);
        rate.copyFrom([now]);
        const grads = sizes.map((n, i) => random([n], 100 * step + i));
        sgd(params, grads, buffers, { lr: rate, momentum, weightDecay, nesterov });
        grads.forEach((grad, i) => {
          const decay = typeof weightDecay === 'number' ? weightDecay : weightDecay[i];
          f32(grad).forEach((raw, j) => {
            const g = raw + decay * p64[i][j];
            m64[i][j] = momentum * m64[i][j] + g;
            p64[i][j] -= now * (nesterov ? g + momentum * m64[i][j] : m64[i][j]);
          });
        });
      }
      params.forEach((p, i) => expectClose(f32(p), p64[i], 2e-6));
      buffers.forEach((m, i) => expectClose(f32(m), m64[i], 2e-6));
    });
  }

  it('agrees with float64: plain, momentum, nesterov, decay per parameter', () => {
    compare({ momentum: 0, nesterov: false, weightDecay: 0, lr: 0.1 });
    compare({ momentum: 0.9, nesterov: false, weightDecay: 5e-4, lr: 0.06 });
    compare({ momentum: 0.9, nesterov: true, weightDecay: 1e-2, lr: 0.06 });
    compare({ momentum: 0.5, nesterov: false, weightDecay: [0, 0.1, 0, 1e-4, 0.5], lr: 0.3 });
  });

  it('of learning rate 0 leaves the parameters as they are and moves the momentum', () => {
    scope(() => {
      const [p, g, m] = [random([100], 1), random([100], 2), zeros([100])];
      const before = Float32Array.from(f32(p));
      sgd([p], [g], [m], { lr: zeros([1]), momentum: 0.9, weightDecay: 0 });
      expect(f32(p)).eql(before);
      expect(f32(m)).eql(f32(g));
    });
  });

  it('reads the learning rate when it runs, not when it is enqueued', () => {
    scope(() => {
      const [p, g, m, lr] = [zeros([4]), random([4], 3), zeros([4]), tensor([1], [1])];
      sgd([p], [g], [m], { lr, momentum: 0, weightDecay: 0 });
      lr.copyFrom([1000]); // in stream order: after the step
      expectClose(
        f32(p),
        f32(g).map((v) => -v),
        1e-7,
      );
    });
  });

  it('takes no parameters, and parameters without elements', () => {
    scope(() => {
      const lr = zeros([1]);
      sgd([], [], [], { lr, momentum: 0, weightDecay: 0 });
      sgd([zeros([0])], [zeros([0])], [zeros([0])], { lr, momentum: 0, weightDecay: 0 });
    });
  });

  it('names what was wrong', () => {
    scope(() => {
      const [p, lr] = [zeros([2, 3]), zeros([1])];
      const step = (params: Tensor[], grads: Tensor[], buffers: Tensor[], options: object = {}) => {
        sgd(params, grads, buffers, { lr, momentum: 0.9, weightDecay: 0, ...options });
      };
      expect(() => step([p], [], [p])).throw(RangeError, /\[sgd\] expected 1 grads, received 0/);
      expect(() => step([p], [p], [zeros([6])])).throw(
        RangeError,
        /momentumBuffers of shape \[2, 3\], received float32 \[6\]/,
      );
      expect(() => step([p], [zeros([2, 3], { dtype: 'bfloat16' })], [p])).throw(
        TypeError,
        /grads of float32.*bfloat16/,
      );
      expect(() => step([p], [p], [p], { momentum: 1 })).throw(RangeError, /momentum in \[0, 1\), received 1/);
      expect(() => step([p], [p], [p], { momentum: NaN })).throw(RangeError, /momentum/);
      expect(() => step([p], [p], [p], { weightDecay: [0, 0] })).throw(
        RangeError,
        /expected 1 weight decays, received 2/,
      );
      expect(() => step([p], [p], [p], { weightDecay: NaN })).throw(RangeError, /finite weight decays/);
      expect(() => step([p], [p], [p], { weightDecay: ['1'] })).throw(TypeError, /weightDecay\[0\] to be a number/);
      expect(() => step([p], [p], [p], { lr: zeros([2]) })).throw(RangeError, /lr of one element/);
      expect(() => step([p], [p], [p], { lr: zeros([1], { dtype: 'int32' }) })).throw(TypeError, /lr of float32/);
      expect(() => step([p], [p], [p], { nesterov: 1 })).throw(TypeError, /nesterov to be a boolean/);
      const gone = zeros([2, 3]);
      gone.dispose();
      expect(() => step([p], [gone], [p])).throw(TypeError, /grads\[0\] to be a live tensor/);
    });
  });
});

describe('lars', () => {
  // Matrices of one piece of work and of several with a rest, a vector and a scalar.
  const shapes = [[7, 3], [129, 131], [33], [], [2, 3, 5]];
  const size = (shape: number[]) => shape.reduce((a, b) => a * b, 1);
  const norm = (v: ArrayLike<number>) => Math.sqrt(Array.from(v).reduce((a, b) => a + b * b, 0));

  it('agrees with float64 over several steps', () => {
    scope(() => {
      const [momentum, weightDecay, trustCoefficient] = [0.9, 0.02, 0.01];
      const params = shapes.map((shape, i) => random(shape, i + 1));
      const buffers = shapes.map((shape) => zeros(shape));
      const rate = zeros([1]);
      const p64 = params.map((p) => Float64Array.from(f32(p)));
      const m64 = shapes.map((shape) => new Float64Array(size(shape)));
      for (let step = 0; step < 5; step++) {
        const now = 2 / (step + 1);
        rate.copyFrom([now]);
        const grads = shapes.map((shape, i) => random(shape, 100 * step + i));
        lars(params, grads, buffers, { lr: rate, momentum, weightDecay, trustCoefficient });
        grads.forEach((grad, i) => {
          const matrix = shapes[i].length > 1;
          const g = Float64Array.from(f32(grad)).map((v, j) => v + (matrix ? weightDecay * p64[i][j] : 0));
          const ratio = matrix ? (trustCoefficient * norm(p64[i])) / norm(g) : 1;
          g.forEach((v, j) => {
            m64[i][j] = momentum * m64[i][j] + ratio * v;
            p64[i][j] -= now * m64[i][j];
          });
        });
      }
      params.forEach((p, i) => expectClose(f32(p), p64[i], 1e-5));
      buffers.forEach((m, i) => expectClose(f32(m), m64[i], 3e-6));
    });
  });

  it('does not scale where a norm is 0', () => {
    scope(() => {
      const [zero, ones, lr] = [zeros([2, 2]), tensor([1, 1, 1, 1], [2, 2]), tensor([0.5], [1])];
      lars([zero], [ones], [zeros([2, 2])], { lr, momentum: 0.9, weightDecay: 0, trustCoefficient: 0.001 });
      expectClose(f32(zero), [-0.5, -0.5, -0.5, -0.5], 0);
      lars([ones], [zeros([2, 2])], [zeros([2, 2])], { lr, momentum: 0.9, weightDecay: 0, trustCoefficient: 0.001 });
      expectClose(f32(ones), [1, 1, 1, 1], 0);
    });
  });

  it('names what was wrong', () => {
    scope(() => {
      const [p, lr] = [zeros([2, 3]), zeros([1])];
      const step = (grads: Tensor[], buffers: Tensor[], options: object = {}) => {
        lars([p], grads, buffers, { lr, momentum: 0.9, weightDecay: 0, trustCoefficient: 0.001, ...options });
      };
      lars([], [], [], { lr, momentum: 0, weightDecay: 0, trustCoefficient: 1 });
      expect(() => step([], [p])).throw(RangeError, /\[lars\] expected 1 grads, received 0/);
      expect(() => step([p], [zeros([6])])).throw(RangeError, /momentumBuffers of shape \[2, 3\]/);
      expect(() => step([p], [p], { lr: zeros([2]) })).throw(RangeError, /lr of one element/);
      expect(() => step([p], [p], { momentum: 1 })).throw(RangeError, /momentum in \[0, 1\), received 1/);
      expect(() => step([p], [p], { weightDecay: NaN })).throw(RangeError, /finite weightDecay, received nan/i);
      expect(() => step([p], [p], { trustCoefficient: 0 })).throw(RangeError, /trustCoefficient > 0, received 0/);
      expect(() => step([p], [p], { trustCoefficient: '1' })).throw(TypeError, /trustCoefficient to be a number/);
    });
  });
});

describe('adamw', () => {
  const sizes = [1, 7, 10_000, 33];
  const state = (list: readonly number[]) => ({
    expAvgs: list.map((n) => zeros([n])),
    expAvgSqs: list.map((n) => zeros([n])),
    steps: list.map(() => zeros([1])),
  });

  it('agrees with float64 over several steps; a parameter that joins later counts its own', () => {
    scope(() => {
      const [beta1, beta2, eps] = [0.9, 0.99, 1e-6];
      const decay = [0, 0.1, 0.01, 0.5];
      const params = sizes.map((n, i) => random([n], i + 1));
      const all = state(sizes);
      const rate = zeros([1]);
      const p64 = params.map((p) => Float64Array.from(f32(p)));
      const [m64, v64] = [sizes.map((n) => new Float64Array(n)), sizes.map((n) => new Float64Array(n))];
      const count = sizes.map(() => 0);
      for (let step = 0; step < 6; step++) {
        const now = 0.1 / (step + 1);
        rate.copyFrom([now]);
        const active = step < 2 ? [0, 2] : [0, 1, 2, 3];
        const take = <T>(list: readonly T[]) => active.map((i) => list[i]);
        const grads = active.map((i) => random([sizes[i]], 100 * step + i));
        const { expAvgs, expAvgSqs, steps } = all;
        const own = { expAvgs: take(expAvgs), expAvgSqs: take(expAvgSqs), steps: take(steps) };
        adamw(take(params), grads, own, { lr: rate, beta1, beta2, eps, weightDecay: take(decay) });
        active.forEach((i, at) => {
          const t = ++count[i];
          f32(grads[at]).forEach((g, j) => {
            m64[i][j] = beta1 * m64[i][j] + (1 - beta1) * g;
            v64[i][j] = beta2 * v64[i][j] + (1 - beta2) * g * g;
            const [m, v] = [m64[i][j] / (1 - beta1 ** t), v64[i][j] / (1 - beta2 ** t)];
            p64[i][j] = p64[i][j] * (1 - now * decay[i]) - (now * m) / (Math.sqrt(v) + eps);
          });
        });
      }
      params.forEach((p, i) => expectClose(f32(p), p64[i], 2e-6));
      all.expAvgs.forEach((m, i) => expectClose(f32(m), m64[i], 1e-6));
      all.expAvgSqs.forEach((v, i) => expectClose(f32(v), v64[i], 1e-6));
      expect(all.steps.map((s) => f32(s)[0])).eql([6, 4, 6, 4]);
    });
  });

  it('names what was wrong', () => {
    scope(() => {
      const [p, lr] = [zeros([3]), zeros([1])];
      const options = { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0 };
      const step = (change: object = {}, own: object = {}) => {
        adamw([p], [p], { ...state([3]), ...own }, { ...options, ...change });
      };
      adamw([], [], state([]), options);
      expect(() => step({ beta1: 1 })).throw(RangeError, /\[adamw\] expected beta1 in \[0, 1\), received 1/);
      expect(() => step({ beta2: -1 })).throw(RangeError, /beta2/);
      expect(() => step({ eps: 0 })).throw(RangeError, /eps > 0/);
      expect(() => step({ weightDecay: [] })).throw(RangeError, /expected 1 weight decays, received 0/);
      expect(() => step({ lr: zeros([1], { dtype: 'int64' }) })).throw(TypeError, /lr of float32/);
      expect(() => step({}, { steps: [] })).throw(RangeError, /expected 1 steps, received 0/);
      expect(() => step({}, { steps: [zeros([3])] })).throw(RangeError, /steps of one element/);
      expect(() => step({}, { expAvgs: [zeros([4])] })).throw(RangeError, /expAvgs of shape \[3\]/);
      expect(() => step({}, { expAvgSqs: [null] })).throw(TypeError);
    });
  });
});

describe('rescale', () => {
  it('multiplies every element', () => {
    scope(() => {
      const list = [random([3], 1), random([], 2), zeros([0]), random([100, 97], 4)];
      const expected = list.map((t) => f32(t).map((v) => v * 0.25));
      rescale(list, 0.25);
      list.forEach((t, i) => expect(f32(t)).eql(expected[i]));
      rescale([], 2);
    });
  });
  it('names what was wrong', () => {
    scope(() => {
      expect(() => rescale([zeros([1])], NaN)).throw(RangeError, /\[rescale\] expected a finite factor/);
      expect(() => rescale([zeros([1], { dtype: 'bfloat16' })], 1)).throw(TypeError, /tensors of float32/);
    });
  });
});

describe('clipGradNorm', () => {
  const shapes = [[7, 3], [129, 131], [33], [], [0]];
  const gradients = () => shapes.map((shape, i) => random(shape, i + 1));
  const squares = (tensors: Tensor[]) => tensors.reduce((a, t) => a + f32(t).reduce((b, v) => b + v * v, 0), 0);

  it('shortens gradients that together are longer than allowed, as PyTorch', () => {
    scope(() => {
      const grads = gradients();
      const norm = Math.sqrt(squares(grads));
      const expected = grads.map((t) => Float64Array.from(f32(t)).map((v) => (v * 2) / (norm + 1e-6)));
      expect(f32(clipGradNorm(grads, 2))[0]).closeTo(norm, 1e-5 * norm);
      grads.forEach((t, i) => expectClose(f32(t), expected[i], 1e-6));
      expect(Math.sqrt(squares(grads))).closeTo(2, 1e-4);
    });
  });
  it('leaves shorter ones as they are', () => {
    scope(() => {
      const grads = gradients();
      const before = grads.map((t) => Float32Array.from(f32(t)));
      clipGradNorm(grads, 1e4);
      clipGradNorm(grads, Infinity);
      grads.forEach((t, i) => expect(f32(t)).eql(before[i]));
    });
  });
  it('does not hide a gradient that is not a number', () => {
    scope(() => {
      const grad = tensor([1, NaN], [2]);
      expect(f32(clipGradNorm([grad], 1))[0]).NaN;
      expect(Array.from(f32(grad))).eql([NaN, NaN]);
    });
  });
  it('names what was wrong', () => {
    scope(() => {
      expect(() => clipGradNorm([], 1)).throw(RangeError, /\[clipGradNorm\] expected gradients, received none/);
      expect(() => clipGradNorm([zeros([1])], 0)).throw(RangeError, /maxNorm > 0, received 0/);
      expect(() => clipGradNorm([zeros([1])], NaN)).throw(RangeError, /maxNorm/);
      expect(() => clipGradNorm([zeros([1], { dtype: 'int32' })], 1)).throw(TypeError, /grads of float32/);
    });
  });
});

describe('norms of gradients', () => {
  it('do not depend on the number of threads', () => {
    const shapes = [[257, 131], [33], [5, 3], [1, 70_001]];
    const run = () =>
      scope(() => {
        const [params, grads] = [1, 50].map((seed) => shapes.map((shape, i) => random(shape, seed + i)));
        const buffers = shapes.map((shape) => zeros(shape));
        const norm = clipGradNorm(grads, 1);
        lars(params, grads, buffers, {
          lr: tensor([1], [1]),
          momentum: 0.9,
          weightDecay: 0.1,
          trustCoefficient: 0.01,
        });
        return [norm, ...params].map((t) => Float32Array.from(f32(t)));
      });
    const before = getNumThreads();
    const results = [1, 2, 3].map((threads) => {
      setNumThreads(threads);
      return run();
    });
    setNumThreads(before);
    expect(results[1]).eql(results[0]);
    expect(results[2]).eql(results[0]);
  });
});

describe('ema', () => {
  it('agrees with float64 over several steps', () => {
    scope(() => {
      const [targets, sources] = [
        [random([33], 1), random([4, 5], 2)],
        [random([33], 3), random([4, 5], 4)],
      ];
      const m = tensor([0.99], [1]);
      const share = Math.fround(0.99);
      const expected = targets.map((t) => Float64Array.from(f32(t)));
      for (let step = 0; step < 10; step++) ema(targets, sources, m);
      expected.forEach((e, i) => {
        const s = f32(sources[i]);
        for (let step = 0; step < 10; step++) e.forEach((v, j) => (e[j] = share * v + (1 - share) * s[j]));
        expectClose(f32(targets[i]), e, 1e-6);
      });
    });
  });
  it('with m 1 keeps the target, with m 0 copies the source', () => {
    scope(() => {
      const [t, s] = [random([50], 1), random([50], 2)];
      const before = Float32Array.from(f32(t));
      ema([t], [s], tensor([1], [1]));
      expect(f32(t)).eql(before);
      ema([t], [s], tensor([0], [1]));
      expect(f32(t)).eql(f32(s));
      ema([], [], tensor([0], [1]));
    });
  });
  it('names what was wrong', () => {
    scope(() => {
      const m = tensor([0.9], [1]);
      expect(() => ema([zeros([2])], [zeros([3])], m)).throw(RangeError, /\[ema\] expected sources of shape \[2\]/);
      expect(() => ema([zeros([2])], [], m)).throw(RangeError, /expected 1 sources, received 0/);
      expect(() => ema([zeros([2])], [zeros([2])], zeros([0]))).throw(RangeError, /m of one element/);
      expect(() => ema([zeros([2], { dtype: 'int32' })], [zeros([2])], m)).throw(TypeError, /targets of float32/);
    });
  });
});

describe('enqueue', () => {
  /** Key by key, as the ring is defined. */
  function reference(queue: Float32Array, keys: Float32Array, d: number, pointer: number): number {
    const k = queue.length / d;
    for (let i = 0; i < keys.length / d; i++, pointer = (pointer + 1) % k)
      queue.set(keys.subarray(i * d, i * d + d), pointer * d);
    return pointer;
  }
  it('writes a ring, also where N does not divide K and where N exceeds K', () => {
    for (const [k, d, batches] of [
      [8, 3, [4, 4, 4]],
      [10, 5, [3, 3, 3, 3, 3]],
      [7, 2, [7, 1, 7]],
      [5, 4, [12, 3, 23, 0, 1]],
      [1, 1, [1, 2, 3]],
    ] as const) {
      scope(() => {
        const queue = random([k, d], 1);
        const pointer = zeros([1], { dtype: 'int64' });
        const expected = Float32Array.from(f32(queue));
        let at = 0;
        batches.forEach((n, i) => {
          const keys = numbers(n * d, 10 + i);
          enqueue(queue, tensor(keys, [n, d]), pointer);
          at = reference(expected, keys, d, at);
          expect(f32(queue)).eql(expected);
          expect(pointer.dataSync()[0]).equal(BigInt(at));
        });
      });
    }
  });
  it('takes any pointer modulo K', () => {
    for (const start of [-1n, 12n, -(2n ** 63n), 2n ** 63n - 1n]) {
      scope(() => {
        const [queue, pointer] = [zeros([5, 1]), tensor(BigInt64Array.of(start), [1])];
        enqueue(queue, tensor([1, 2], [2, 1]), pointer);
        const at = Number(((start % 5n) + 5n) % 5n);
        const expected = new Float32Array(5);
        expected[at] = 1;
        expected[(at + 1) % 5] = 2;
        expect(f32(queue)).eql(expected);
        expect(pointer.dataSync()[0]).equal(BigInt((at + 2) % 5));
      });
    }
  });
  it('names what was wrong', () => {
    scope(() => {
      const [queue, pointer] = [zeros([8, 3]), zeros([1], { dtype: 'int64' })];
      expect(() => enqueue(queue, zeros([2, 4]), pointer)).throw(
        RangeError,
        /\[enqueue\] expected keys \[N, 3\].*\[2, 4\]/,
      );
      expect(() => enqueue(zeros([0, 3]), zeros([2, 3]), pointer)).throw(RangeError, /\[enqueue\]/);
      expect(() => enqueue(zeros([8]), zeros([2, 3]), pointer)).throw(TypeError, /queue of 2 dimensions/);
      expect(() => enqueue(queue, queue, pointer)).throw(RangeError, /apart from the queue/);
      expect(() => enqueue(queue, queue.detach(), pointer)).throw(RangeError, /apart from the queue/);
      expect(() => enqueue(queue, zeros([2, 3]), zeros([1]))).throw(TypeError, /pointer of int64/);
      expect(() => enqueue(queue, zeros([2, 3]), zeros([2], { dtype: 'int64' }))).throw(
        RangeError,
        /pointer of one element/,
      );
      expect(() => enqueue(queue, zeros([2, 3], { dtype: 'bfloat16' }), pointer)).throw(TypeError, /keys of float32/);
    });
  });
});

describe('fill', () => {
  it('overwrites every tensor', () => {
    scope(() => {
      const list = [random([3], 1), random([], 2), random([0], 3), random([100, 7], 4)];
      for (const value of [0, -2.5, Infinity]) {
        fill(list, value);
        for (const t of list) for (const v of f32(t)) expect(v).equal(value);
      }
      fill([], 1);
    });
  });
  it('names what was wrong', () => {
    scope(() => {
      expect(() => fill([zeros([1])], NaN)).throw(RangeError, /\[fill\] expected a number, received NaN/);
      expect(() => fill([zeros([1], { dtype: 'int32' })], 1)).throw(TypeError, /tensors of float32/);
      expect(() => fill([zeros([1])], '1' as unknown as number)).throw(TypeError, /value to be a number, received '1'/);
    });
  });
});
