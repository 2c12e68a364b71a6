import { expect } from 'chai';
import {
  backward,
  l2Normalize,
  scale,
  scope,
  slimInfoNCE,
  tensor,
  type SlimInfoNCEOptions,
  type Tensor,
} from '../../lib/tensor';
import { checkGradient, input, numbers, random } from './gradient-check';

interface Case {
  n: number;
  d: number;
  k: number;
  weights: number[];
  temperature: number;
  teacherTemperature: number;
  studentTemperature: number;
  aux: number;
  distill: 'similarity' | 'none';
  fullDistill: boolean;
  /** All embeddings lie around one point, where rounding errors average out least. */
  collapsed?: boolean;
}

const normalized = (x: Float32Array, d: number): Float32Array => {
  for (let i = 0; i < x.length; i += d) {
    const norm = Math.hypot(...x.subarray(i, i + d));
    for (let j = i; j < i + d; j++) x[j] = x[j] / norm;
  }
  return x;
};

const unitRows = (n: number, d: number, seed: number): Float32Array => normalized(numbers(n * d, seed), d);

const softmax = (x: number[]): number[] => {
  const most = Math.max(...x);
  const e = x.map((v) => Math.exp(v - most));
  const total = e.reduce((a, b) => a + b, 0);
  return e.map((v) => v / total);
};

/** Losses and gradients in float64, with the logits spelt out. */
function reference(c: Case, queries: Float32Array[], key: Float32Array, queue: Float32Array) {
  const { n, d, k } = c;
  const perWidth = c.weights.map(() => 0);
  const gradients = queries.map(() => new Float64Array(n * d));
  for (let i = 0; i < n; i++) {
    const candidates = [key.subarray(i * d, (i + 1) * d)];
    for (let j = 0; j < k; j++) candidates.push(queue.subarray(j * d, (j + 1) * d));
    const cosines = queries.map((q) =>
      candidates.map((r) => r.reduce((sum, v, at) => sum + v * (q[i * d + at] ?? 0), 0)),
    );
    const teachers = cosines.map((s) => softmax(s.map((v) => v / c.teacherTemperature)));
    cosines.forEach((s, w) => {
      const a = w === 0 || c.distill === 'none' ? 0 : c.aux;
      const p = softmax(s.map((v) => v / c.temperature));
      const student = softmax(s.map((v) => v / c.studentTemperature));
      const larger = c.fullDistill ? teachers.slice(0, w) : teachers.slice(0, 1);
      const t = student.map((_, j) => larger.reduce((sum, teacher) => sum + (teacher[j] ?? 0), 0) / larger.length);
      const kd = -(c.studentTemperature ** 2) * student.reduce((sum, v, j) => sum + (t[j] ?? 0) * Math.log(v), 0);
      perWidth[w] = (perWidth[w] ?? 0) + ((1 - a) * -Math.log(p[0] ?? 0) + (a > 0 ? a * kd : 0)) / n;
      candidates.forEach((r, j) => {
        const contrast = ((1 - a) * ((p[j] ?? 0) - (j === 0 ? 1 : 0))) / c.temperature;
        const distil = a > 0 ? a * c.studentTemperature * ((student[j] ?? 0) - (t[j] ?? 0)) : 0;
        const g = ((c.weights[w] ?? 0) * (contrast + distil)) / n;
        r.forEach((v, at) => {
          const gradient = gradients[w];
          if (gradient) gradient[i * d + at] = (gradient[i * d + at] ?? 0) + g * v;
        });
      });
    });
  }
  return { perWidth, gradients };
}

const base: Case = {
  n: 5,
  d: 16,
  k: 70,
  weights: [2.5, 1, 1, 1],
  temperature: 0.2,
  teacherTemperature: 5,
  studentTemperature: 5,
  aux: 0.5,
  distill: 'similarity',
  fullDistill: false,
};

const cases: [string, Case][] = [
  ['the default recipe', base],
  ['one width', { ...base, weights: [1] }],
  ['InfoNCE alone', { ...base, distill: 'none' }],
  ['all larger widths as teachers', { ...base, fullDistill: true }],
  ['a low temperature', { ...base, temperature: 0.01, teacherTemperature: 1, studentTemperature: 1 }],
  ['different temperatures', { ...base, teacherTemperature: 1, studentTemperature: 3, aux: 0.25 }],
  ['one negative, one picture', { ...base, n: 1, k: 1, weights: [1.5, 1] }],
  ['a queue that takes the 8-bit remainder', { ...base, n: 3, d: 32, k: 5000 }],
  ['a queue rounded to 16 bits', { ...base, n: 2, d: 32, k: 16500, fullDistill: true }],
  ['a queue rounded to 16 bits, of odd sizes', { ...base, n: 1, d: 19, k: 16387, weights: [1, 2], aux: 0.25 }],
  ['a queue rounded to 16 bits, collapsed', { ...base, n: 2, d: 64, k: 16384, weights: [2, 1], collapsed: true }],
  ['a long queue at temperatures too low to round it', { ...base, n: 1, k: 16387, temperature: 0.1 }],
];

const tensors = (c: Case, requiresGrad: boolean) => {
  const around = unitRows(1, c.d, 9);
  const rows = (n: number, seed: number) =>
    normalized(
      unitRows(n, c.d, seed).map((v, i) => (c.collapsed ? 0.1 * v + around[i % c.d] : v)),
      c.d,
    );
  const queries = c.weights.map((_, w) => rows(c.n, 10 + w));
  const key = rows(c.n, 20);
  const queue = rows(c.k, 21);
  const options: SlimInfoNCEOptions = {
    ...c,
    queries: queries.map((q) => tensor(q, [c.n, c.d], { requiresGrad })),
    key: tensor(key, [c.n, c.d]),
    queue: tensor(queue, [c.k, c.d]),
    weights: tensor(c.weights, [c.weights.length]),
  };
  return { options, expected: reference(c, queries, key, queue) };
};

describe('slimInfoNCE', () => {
  for (const [name, c] of cases) {
    it(`agrees with float64: ${name}`, () => {
      scope(() => {
        const { options, expected } = tensors(c, true);
        const { loss, perWidth } = slimInfoNCE(options);
        const total = expected.perWidth.reduce((sum, v, w) => sum + v * (c.weights[w] ?? 0), 0);
        expect(Number(loss.dataSync()[0])).closeTo(total, 1e-5 * Math.abs(total));
        expected.perWidth.forEach((v, w) =>
          expect(Number(perWidth.dataSync()[w])).closeTo(v, 1e-5 * Math.max(1, Math.abs(v))),
        );
        backward(scale(loss, 0.5));
        expected.gradients.forEach((g, w) => {
          const query = options.queries[w];
          const actual = query.grad?.dataSync() as Float32Array;
          const norm = Math.hypot(...g);
          const difference = Math.hypot(...Array.from(g, (v, i) => 0.5 * v - (actual[i] ?? NaN)));
          expect(difference, `gradient of width ${w}`).at.most(5e-5 * norm + 1e-7);
          query.grad?.dispose();
        });
      });
    });
  }

  it('has its gradient through the normalisation, but none into the teacher', () => {
    const key = unitRows(4, 12, 1);
    const queue = unitRows(40, 12, 2);
    const loss = (aux: number) => (full: Tensor, sub: Tensor) =>
      slimInfoNCE({
        ...base,
        aux,
        queries: [l2Normalize(full), l2Normalize(sub)],
        key: tensor(key, [4, 12]),
        queue: tensor(queue, [40, 12]),
        weights: tensor([1.5, 1], [2]),
      }).loss;
    // Without distillation nothing is detached, so differences see the whole gradient.
    checkGradient(loss(0), [input([4, 12], 3), input([4, 12], 4)], { step: 1e-2, tolerance: 1e-2 });
    checkGradient((sub) => loss(0.5)(random([4, 12], 3), sub), [input([4, 12], 4)], { step: 3e-2, tolerance: 1e-2 });
  });

  it('is not finite where a key of a long queue is not, or a query', () => {
    const loss = (queue: Float32Array, query: Float32Array) =>
      scope(() =>
        Number(
          slimInfoNCE({
            ...base,
            queries: [tensor(query, [1, 16])],
            key: tensor(unitRows(1, 16, 1), [1, 16]),
            queue: tensor(queue, [16500, 16]),
            weights: tensor([1], [1]),
          }).loss.dataSync()[0],
        ),
      );
    const [queue, query] = [unitRows(16500, 16, 2), unitRows(1, 16, 3)];
    expect(loss(queue, query)).above(0);
    for (const bad of [NaN, Infinity]) {
      expect(loss(queue.with(16 * 16000 + 3, bad), query)).satisfy(Number.isNaN);
      expect(loss(queue, query.with(5, bad))).satisfy(Number.isNaN);
    }
  });

  it('names what was wrong', () => {
    scope(() => {
      const { options } = tensors(base, false);
      const [first] = options.queries as [Tensor];
      expect(() => slimInfoNCE({ ...options, queries: [] })).throw(RangeError, /1…64 queries/);
      expect(() => slimInfoNCE({ ...options, queries: [first] })).throw(RangeError, /weights of shape \[1\]/);
      expect(() => slimInfoNCE({ ...options, temperature: 0 })).throw(RangeError, /temperature/);
      expect(() => slimInfoNCE({ ...options, aux: 2 })).throw(RangeError, /aux in \[0, 1\]/);
      expect(() => slimInfoNCE({ ...options, queue: random([7, 3], 1) })).throw(RangeError, /queue \[K, 16\]/);
      expect(() => slimInfoNCE({ ...options, key: random([2, 16], 1) })).throw(
        RangeError,
        /queries of shape \[2, 16\]/,
      );
    });
  });
});
