import { expect } from 'chai';
import { ema, enqueue, fill, knn, scope, sgd, tensor, type Tensor } from '../../lib/tensor';
import { numbers } from './gradient-check';

const values = (t: Tensor): number[] => Array.from(t.dataSync() as Float32Array);

describe('sgd', () => {
  for (const nesterov of [false, true]) {
    it(`is PyTorch's, ${nesterov ? 'with' : 'without'} Nesterov, over several steps and tensors`, () => {
      const sizes = [5, 1000, 1];
      const decay = [0.1, 0, 0.01];
      const start = sizes.map((n, i) => numbers(n, i + 1));
      const p = start.map((v) => Float64Array.from(v));
      const mu = sizes.map((n) => new Float64Array(n));
      scope(() => {
        const params = start.map((v) => tensor(v, [v.length]));
        const buffers = sizes.map((n) => tensor(new Float32Array(n), [n]));
        for (let step = 0; step < 4; step++) {
          const lr = 0.1 / (step + 1);
          const g = sizes.map((n, i) => numbers(n, 10 * step + i + 5));
          const grads = g.map((v) => tensor(v, [v.length]));
          sgd(params, grads, buffers, { lr: tensor([lr], [1]), momentum: 0.9, weightDecay: decay, nesterov });
          p.forEach((w, i) => {
            const [m, gradient] = [mu[i] ?? new Float64Array(), g[i] ?? new Float32Array()];
            w.forEach((old, j) => {
              const d = (gradient[j] ?? 0) + (decay[i] ?? 0) * old;
              m[j] = 0.9 * (m[j] ?? 0) + d;
              w[j] = old - lr * (nesterov ? d + 0.9 * (m[j] ?? 0) : (m[j] ?? 0));
            });
          });
        }
        params.forEach((t, i) => {
          values(t).forEach((v, j) => expect(v).closeTo(p[i]?.[j] ?? NaN, 1e-5));
        });
      });
    });
  }
  it('names what was wrong', () => {
    scope(() => {
      const [a, b] = [tensor([1, 2], [2]), tensor([1], [1])];
      const options = { lr: b, momentum: 0.9, weightDecay: 0 };
      expect(() => {
        sgd([a], [b], [a], options);
      }).throw(RangeError, /\[sgd\] expected grads of shape \[2\]/);
      expect(() => {
        sgd([a], [a], [], options);
      }).throw(RangeError, /1 momentumBuffers, received 0/);
      expect(() => {
        sgd([a], [a], [a], { ...options, momentum: 1 });
      }).throw(RangeError, /momentum/);
      expect(() => {
        sgd([a], [a], [a], { ...options, lr: a });
      }).throw(RangeError, /lr of one element/);
    });
  });
});

describe('ema', () => {
  it('averages a list in one call', () => {
    scope(() => {
      const targets = [tensor([1, 2], [2]), tensor([4], [1])];
      ema(targets, [tensor([3, 6], [2]), tensor([0], [1])], tensor([0.75], [1]));
      expect(targets.map(values)).eql([[1.5, 3], [3]]);
    });
  });
});

describe('enqueue', () => {
  const run = (k: number, batches: number[][]): [number[], number] =>
    scope(() => {
      const queue = tensor(new Float32Array(k), [k, 1]);
      const pointer = tensor([0], [1], { dtype: 'int64' });
      for (const keys of batches) enqueue(queue, tensor(keys, [keys.length, 1]), pointer);
      return [values(queue), Number(pointer.dataSync()[0])];
    });
  it('is a ring for any batch size', () => {
    expect(run(5, [[1, 2, 3]])).eql([[1, 2, 3, 0, 0], 3]);
    expect(
      run(5, [
        [1, 2, 3],
        [4, 5, 6],
      ]),
    ).eql([[6, 2, 3, 4, 5], 1]);
    expect(run(3, [[1, 2, 3, 4, 5]])).eql([[4, 5, 3], 2]);
  });
  it('names what was wrong', () => {
    scope(() => {
      const queue = tensor(new Float32Array(6), [3, 2]);
      const pointer = tensor([0], [1], { dtype: 'int64' });
      expect(() => {
        enqueue(queue, tensor([1], [1, 1]), pointer);
      }).throw(RangeError, /keys \[N, 2\]/);
      expect(() => {
        enqueue(queue, queue, pointer);
      }).throw(RangeError, /apart from the queue/);
      expect(() => {
        enqueue(queue, tensor([1, 2], [1, 2]), tensor([0], [1]));
      }).throw(TypeError, /pointer of int64/);
    });
  });
});

describe('fill', () => {
  it('overwrites a list', () => {
    scope(() => {
      const list = [tensor([1, 2], [2]), tensor([3], [1])];
      fill(list, 7);
      expect(list.map(values)).eql([[7, 7], [7]]);
      fill(list, 0);
      expect(list.map(values)).eql([[0, 0], [0]]);
      expect(() => {
        fill(list, NaN);
      }).throw(RangeError, /NaN/);
    });
  });
});

describe('knn', () => {
  it('sums the weights of the k nearest, the lower row first among equals', () => {
    const [n, m, d, classes] = [70, 90, 8, 4];
    const query = numbers(n * d, 31);
    const bank = numbers(m * d, 32);
    bank.copyWithin(5 * d, 0, d); // row 5 equals row 0
    const labels = Int32Array.from({ length: m }, (_, i) => i % classes);
    for (const k of [1, 7, 500]) {
      const scores = scope(() =>
        values(knn(tensor(query, [n, d]), tensor(bank, [m, d]), tensor(labels, [m]), { k, temperature: 0.5, classes })),
      );
      for (let i = 0; i < n; i++) {
        const all = Array.from({ length: m }, (_, j) => {
          let s = 0;
          for (let p = 0; p < d; p++) s += (query[i * d + p] ?? 0) * (bank[j * d + p] ?? 0);
          return [Math.fround(s), j] as const;
        }).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
        const expected = new Float64Array(classes);
        for (const [s, j] of all.slice(0, k)) {
          const label = labels[j] ?? 0;
          expected[label] = (expected[label] ?? 0) + Math.exp(s / 0.5);
        }
        expected.forEach((v, c) => expect(scores[i * classes + c]).closeTo(v, 1e-4 * (1 + v)));
      }
    }
  });
  it('names what was wrong', () => {
    scope(() => {
      const bank = tensor([1, 0], [1, 2]);
      const labels = tensor([0], [1], { dtype: 'int32' });
      const options = { k: 1, temperature: 0.1, classes: 2 };
      expect(() => knn(tensor([1], [1, 1]), bank, labels, options)).throw(RangeError, /bank \[M, 1\]/);
      expect(() => knn(bank, bank, labels, { ...options, k: 0 })).throw(RangeError, /k >= 1/);
      expect(() => knn(bank, bank, bank, options)).throw(TypeError, /labels of int32/);
    });
  });
});
