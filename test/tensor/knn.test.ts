import { expect } from 'chai';
import { knn, scope, tensor, zeros } from '../../lib/tensor';
import { numbers } from './gradient-check';

interface Case {
  n: number;
  m: number;
  d: number;
  classes: number;
  k: number;
  temperature: number;
}

/** Small multiples of 1/4: their products and sums are exact in float32, so that ties are ties. */
const coarse = (n: number, seed: number): Float32Array => numbers(n, seed).map((v) => Math.round(4 * v) / 4);

/** All similarities, sorted; the lower row first among equals. */
function bruteForce(c: Case, query: Float32Array, bank: Float32Array, labels: Int32Array): Float64Array {
  const scores = new Float64Array(c.n * c.classes);
  for (let i = 0; i < c.n; i++) {
    const all = Array.from({ length: c.m }, (_, j) => {
      let s = 0;
      for (let p = 0; p < c.d; p++) s += query[i * c.d + p] * bank[j * c.d + p];
      return { s, j };
    }).sort((a, b) => b.s - a.s || a.j - b.j);
    for (const { s, j } of all.slice(0, c.k)) {
      if (labels[j] >= 0 && labels[j] < c.classes) scores[i * c.classes + labels[j]] += Math.exp(s / c.temperature);
    }
  }
  return scores;
}

function compare(c: Case, labels: Int32Array, bank = coarse(c.m * c.d, 2)): void {
  const query = coarse(c.n * c.d, 1);
  const options = { k: c.k, temperature: c.temperature, classes: c.classes };
  const scores = scope(() =>
    knn(tensor(query, [c.n, c.d]), tensor(bank, [c.m, c.d]), tensor(labels, [c.m]), options).dataSync(),
  ) as Float32Array;
  bruteForce(c, query, bank, labels).forEach((v, i) => {
    if (!(Math.abs(scores[i] - v) <= 1e-5 * (v + 1e-3))) expect(scores[i], `score ${i}`).closeTo(v, 1e-5 * (v + 1e-3));
  });
}

const cyclic = (m: number, classes: number): Int32Array => Int32Array.from({ length: m }, (_, i) => (7 * i) % classes);

describe('knn', () => {
  it('sums the weights of the k nearest', () => {
    compare({ n: 70, m: 300, d: 8, classes: 5, k: 20, temperature: 0.5 }, cyclic(300, 5));
    compare({ n: 3, m: 97, d: 33, classes: 10, k: 1, temperature: 0.1 }, cyclic(97, 10));
    compare({ n: 1, m: 1, d: 1, classes: 2, k: 1, temperature: 1 }, cyclic(1, 2));
  });
  it('takes the lower row first among equals', () => {
    const bank = new Float32Array(200 * 4).fill(0.5); // all alike: the first k rows are the neighbours
    compare({ n: 40, m: 200, d: 4, classes: 7, k: 10, temperature: 0.5 }, cyclic(200, 7), bank);
    compare({ n: 40, m: 400, d: 2, classes: 11, k: 50, temperature: 0.5 }, cyclic(400, 11));
  });
  it('takes the whole bank where k exceeds it', () => {
    compare({ n: 9, m: 50, d: 6, classes: 3, k: 500, temperature: 0.5 }, cyclic(50, 3));
    compare({ n: 9, m: 50, d: 6, classes: 3, k: Number.MAX_SAFE_INTEGER, temperature: 0.5 }, cyclic(50, 3));
  });
  it('works with one class, and lets labels out of range vote for none', () => {
    compare({ n: 9, m: 50, d: 6, classes: 1, k: 7, temperature: 0.5 }, new Int32Array(50));
    const labels = Int32Array.from({ length: 50 }, (_, i) => [0, 1, -1, 2, 2 ** 31 - 1][i % 5]);
    compare({ n: 9, m: 50, d: 6, classes: 2, k: 20, temperature: 0.5 }, labels);
  });
  it('takes no queries', () => {
    scope(() => {
      const options = { k: 1, temperature: 0.1, classes: 2 };
      expect(knn(zeros([0, 2]), zeros([3, 2]), zeros([3], { dtype: 'int32' }), options).shape).eql([0, 2]);
    });
  });
  it('names what was wrong', () => {
    scope(() => {
      const [query, bank, labels] = [zeros([2, 3]), zeros([4, 3]), zeros([4], { dtype: 'int32' })];
      const options = { k: 1, temperature: 0.1, classes: 2 };
      expect(() => knn(zeros([2, 5]), bank, labels, options)).throw(
        RangeError,
        /\[knn\] expected bank \[M, 5\].*\[4, 3\]/,
      );
      expect(() => knn(query, zeros([0, 3]), zeros([0], { dtype: 'int32' }), options)).throw(RangeError, /M >= 1/);
      expect(() => knn(zeros([3]), bank, labels, options)).throw(TypeError, /query of 2 dimensions/);
      expect(() => knn(query, bank, zeros([3], { dtype: 'int32' }), options)).throw(
        RangeError,
        /labels of shape \[4\]/,
      );
      expect(() => knn(query, bank, zeros([4]), options)).throw(TypeError, /labels of int32/);
      for (const k of [0, -1]) expect(() => knn(query, bank, labels, { ...options, k })).throw(RangeError, /k >= 1/);
      for (const k of [1.5, NaN])
        expect(() => knn(query, bank, labels, { ...options, k })).throw(RangeError, /k to be an integer/);
      for (const temperature of [0, -1, NaN, Infinity]) {
        expect(() => knn(query, bank, labels, { ...options, temperature })).throw(RangeError, /temperature >= 0.001/);
      }
      for (const classes of [0, 2 ** 21]) {
        expect(() => knn(query, bank, labels, { ...options, classes })).throw(RangeError, /classes in 1/);
      }
    });
  });
});
