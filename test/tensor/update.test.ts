import { expect } from 'chai';
import { ema, enqueue, fill, scope, sgd, tensor, zeros, type Tensor } from '../../lib/tensor';
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
