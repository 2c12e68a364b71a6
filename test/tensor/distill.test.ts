import { expect } from 'chai';
import { backward, distill, noGrad, scale, scope, tensor, type DistillOptions } from '../../lib/tensor';
import { checkGradient, input, numbers, random } from './gradient-check';

type Kind = Parameters<typeof distill>[0];
type Row = readonly number[];

const mean = (x: Row): number => x.reduce((a, b) => a + b, 0) / x.length;
const logSumExp = (x: Row): number => Math.log(x.reduce((sum, v) => sum + Math.exp(v), 0));
const logSoftmax = (x: Row): number[] => x.map((v) => v - logSumExp(x));
const kl = (t: Row, s: Row): number => t.reduce((sum, v, j) => sum + Math.exp(v) * (v - s[j]), 0);
const layerNorm = (x: Row): number[] => {
  const [m, v] = [mean(x), mean(x.map((a) => (a - mean(x)) ** 2))];
  return x.map((a) => (a - m) / Math.sqrt(v + 1e-5));
};

/** The losses as in the papers, in float64. */
const references: Record<Kind, (s: Row, t: Row, positive: number, Tt: number, Ts: number) => number> = {
  kd: (s, t, _, Tt, Ts) => {
    const [ls, lt] = [logSoftmax(s.map((v) => v / Ts)), logSoftmax(t.map((v) => v / Tt))];
    return -(Ts ** 2) * lt.reduce((sum, v, j) => sum + Math.exp(v) * ls[j], 0);
  },
  mse: (s, t) => mean(s.map((v, j) => (v - t[j]) ** 2)),
  atkd: (s, t) => {
    const soft = (x: Row) => logSoftmax(layerNorm(x).map((v) => (2 * v) / 4));
    return 16 * kl(soft(t), soft(s));
  },
  dkd: (s, t, positive) => {
    const binary = (x: Row) => {
      const p = logSoftmax(x)[positive];
      return [p, Math.log(1 - Math.exp(p))];
    };
    const others = (x: Row) => logSoftmax(x.filter((_, j) => j !== positive));
    return kl(binary(t), binary(s)) + 0.5 * kl(others(t), others(s));
  },
};

/** Central differences of the reference, in float64. */
function gradientOf(loss: (s: number[][]) => number, s: number[][]): number[] {
  const step = 1e-5;
  return s.flatMap((row, r) =>
    row.map((_, j) => {
      const at = (shift: number) => loss(s.map((v, i) => (i === r ? v.map((x, k) => (k === j ? x + shift : x)) : v)));
      return (at(step) - at(-step)) / (2 * step);
    }),
  );
}

const rowsOf = (x: Float32Array, c: number): number[][] =>
  Array.from({ length: x.length / c }, (_, r) => Array.from(x.subarray(r * c, (r + 1) * c)));

describe('distill', () => {
  const temperatures: DistillOptions[] = [{}, { teacherTemperature: 0.2, studentTemperature: 3 }];
  for (const kind of Object.keys(references) as Kind[]) {
    // Below, at and beyond the width of the vectors.
    for (const [n, c] of [
      [3, 2],
      [5, 16],
      [4, 37],
      [2, 131],
    ]) {
      it(`agrees with float64: ${kind} of [${n}, ${c}]`, () => {
        for (const { teacherTemperature = 1, studentTemperature = 1 } of temperatures) {
          const [s, t] = [numbers(n * c, 1).map((v) => 3 * v), numbers(n * c, 2).map((v) => 3 * v)];
          const positives = Array.from({ length: n }, (_, r) => (7 * r + c - 1) % c);
          const lossOf = (student: number[][]) => {
            const teacher = rowsOf(t, c);
            const rows = student.map((row, r) =>
              references[kind](row, teacher[r], positives[r], teacherTemperature, studentTemperature),
            );
            return mean(rows);
          };
          scope(() => {
            const student = tensor(s, [n, c], { requiresGrad: true });
            const labels = tensor(Int32Array.from(positives), [n]);
            const options = { teacherTemperature, studentTemperature, positives: labels };
            const loss = distill(kind, student, tensor(t, [n, c]), options);
            const expected = lossOf(rowsOf(s, c));
            expect(Number(loss.dataSync()[0])).closeTo(expected, 1e-5 * Math.max(1, expected));
            backward(scale(loss, 0.5));
            const gradient = student.grad?.dataSync() as Float32Array;
            const wanted = gradientOf(lossOf, rowsOf(s, c)).map((v) => 0.5 * v);
            const size = Math.hypot(...wanted);
            expect(Math.hypot(...wanted.map((v, j) => v - gradient[j])), 'gradient').at.most(1e-5 * size + 1e-6);
            student.dispose();
          });
        }
      });
    }
  }

  it('stays exact for logits far from each other', () => {
    scope(() => {
      const [student, teacher] = [tensor([90, -90, 0], [1, 3], { requiresGrad: true }), tensor([-90, 90, 0], [1, 3])];
      const loss = distill('dkd', student, teacher, { positives: tensor(Int32Array.of(0), [1]) });
      // The teacher gives the positive nothing, the student everything: 90; the second of the others likewise: 45.
      expect(Number(loss.dataSync()[0])).closeTo(90 + 45, 1e-3);
      backward(loss);
      // p_s - p_t for the positive, 0.5·(ŝ - t̂) - ŝ·(p_s - p_t) for the others, of which the student has ŝ = (0, 1).
      const gradient = Array.from(student.grad?.dataSync() as Float32Array);
      for (const [j, v] of [1, -0.5, -1 + 0.5].entries()) expect(gradient[j]).closeTo(v, 1e-5);
      student.dispose();
    });
  });

  it('gives the teacher no gradient', () => {
    scope(() => {
      const [student, teacher] = [random([3, 4], 1, true), random([3, 4], 2, true)];
      backward(distill('mse', student, teacher));
      expect(student.grad).not.equal(null);
      expect(teacher.grad).equal(null);
      student.dispose();
    });
    checkGradient((s) => distill('kd', s, random([3, 5], 3)), [input([3, 5], 4)]);
  });

  it('is the same without a gradient', () => {
    scope(() => {
      const [student, teacher] = [random([3, 40], 1, true), random([3, 40], 2)];
      const [a, b] = [distill('atkd', student, teacher), noGrad(() => distill('atkd', student, teacher))];
      expect(b.requiresGrad).equal(false);
      expect(b.dataSync()).deep.equal(a.dataSync());
    });
  });

  it('tells NaNs and fails for positives outside', async () => {
    const nan = Float32Array.of(1, NaN, 2);
    const labels = (v: number) => tensor(Int32Array.of(v), [1]);
    for (const kind of Object.keys(references) as Kind[]) {
      const loss = scope(() => distill(kind, tensor(nan, [1, 3]), random([1, 3], 1), { positives: labels(0) }));
      expect(await loss.item(), kind).to.satisfy(Number.isNaN);
      loss.dispose();
    }
    const bad = scope(() => distill('dkd', random([1, 3], 1), random([1, 3], 2), { positives: labels(3) }));
    const message = await bad.item().then(String, (error: Error) => error.message);
    bad.dispose();
    expect(message).match(/\[distill\] expected positives in 0…2, received 1 of 1 outside/);
  });

  it('names what was wrong', () => {
    scope(() => {
      const [x, y] = [random([2, 3], 1), random([2, 4], 1)];
      expect(() => distill('kl' as 'kd', x, x)).throw(RangeError, /'kd', 'mse', 'atkd' or 'dkd', received 'kl'/);
      expect(() => distill('mse', x, y)).throw(RangeError, /teacher like student/);
      expect(() => distill('dkd', x, x)).throw(TypeError, /positives for dkd/);
      expect(() => distill('dkd', x, x, { positives: tensor([0], [1], { dtype: 'int32' }) })).throw(
        RangeError,
        /positives of shape \[2\]/,
      );
      expect(() => distill('kd', x, x, { studentTemperature: 0 })).throw(RangeError, /studentTemperature >= 0.001/);
      expect(() => distill('dkd', random([2, 1], 1), random([2, 1], 1), { positives: x })).throw(RangeError, /C >= 2/);
      expect(() => distill('kd', random([0, 3], 1), random([0, 3], 1))).throw(RangeError, /N >= 1/);
    });
  });
});
