import { expect } from 'chai';
import { numbers } from '../tensor/gradient-check';
import { collapse, interference, sketch, trajectory } from '../../lib/train/diagnostics';

const f32 = (...values: number[]) => Float32Array.from(values);

describe('diagnostics', () => {
  describe('interference', () => {
    // A weight [2, 3] whose width 0.5 uses [:1, :2], and a bias [2] whose width 0.5 uses [:1].
    const weight = {
      name: 'fc.weight',
      shape: [2, 3],
      slices: [
        [2, 3],
        [1, 2],
      ],
      gradients: [f32(3, 0, 2, 1, 2, 4), f32(0, 4, 0, 0, 0, 0)],
    };
    const bias = { name: 'fc.bias', shape: [2], slices: [[2], [1]], gradients: [f32(6, 8), f32(-12, 0)] };
    const { total, parameters, layers } = interference([weight, bias], [1, 0.5]);

    it('splits the total gradient into a slice and the remainder', () => {
      // The sum is [3 4 | 2; 1 2 4]: 25 in the slice, 4 + 1 + 4 + 16 beside it.
      expect(layers['fc.weight'].norm['0.5']).to.equal(5);
      expect(layers['fc.weight'].rest).to.deep.equal({ '0.5': 5 });
      expect(layers['fc.weight'].ratio).to.deep.equal({ '0.5': 1 });
      expect(layers['fc.weight'].norm['1']).to.be.closeTo(Math.sqrt(50), 1e-5);
      // The sum is [-6 | 8].
      expect(layers['fc.bias'].ratio['0.5']).to.be.closeTo(8 / 6, 1e-5);
    });

    it('compares the directions of the own gradients on what both widths use', () => {
      // [3 0] and [0 4]; 6 and -12.
      expect(layers['fc.weight'].cosine).to.deep.equal({ '1|0.5': 0 });
      expect(layers['fc.bias'].cosine).to.deep.equal({ '1|0.5': -1 });
      expect(layers['fc.weight'].own['1']).to.be.closeTo(Math.sqrt(9 + 4 + 1 + 4 + 16), 1e-5);
      expect(layers['fc.weight'].own['0.5']).to.equal(4);
    });

    it('takes all layers together as one vector', () => {
      expect(total.ratio['0.5']).to.be.closeTo(Math.sqrt((25 + 64) / (25 + 36)), 1e-5);
      // (3, 0, 6)·(0, 4, -12)
      expect(total.cosine['1|0.5']).to.be.closeTo(-72 / (Math.sqrt(45) * Math.sqrt(160)), 1e-5);
      expect(parameters).to.deep.equal({ '1': 8, '0.5': 3 });
    });

    it('goes through the kernels of convolutions, and through three nested widths', () => {
      // [3, 1, 1, 2] of ones with one gradient: two elements in each of three shells.
      const conv = {
        name: 'conv1.weight',
        shape: [3, 1, 1, 2],
        slices: [3, 2, 1].map((out) => [out, 1, 1, 2]),
        gradients: [f32(1, 1, 1, 1, 1, 1), f32(2, 2, 2, -2, 0, 0), f32(0, 0, 0, 0, 0, 0)],
      };
      const { layers: of } = interference([conv], [1, 0.7, 0.4]);
      expect(of['conv1.weight'].cosine['1|0.7']).to.be.closeTo(4 / (2 * 4), 1e-5);
      expect(of['conv1.weight'].ratio['0.4']).to.be.closeTo(Math.sqrt((9 + 1 + 2) / 18), 1e-5);
      // Nothing has a direction where a gradient is zero.
      expect(of['conv1.weight'].cosine).to.include({ '1|0.4': null, '0.7|0.4': null });
    });

    it('has no directions of the sub-networks during slow start', () => {
      const slow = interference([{ ...weight, gradients: weight.gradients.slice(0, 1) }], [1, 0.5]);
      expect(slow.total.cosine).to.deep.equal({});
      expect(slow.total.own).to.have.keys('1');
      expect(slow.total.ratio['0.5']).to.be.closeTo(5 / 3, 1e-5);
    });
  });

  describe('collapse', () => {
    it('finds no dimension in embeddings that are all the same', () => {
      expect(collapse(f32(0.6, 0.8, 0.6, 0.8, 0.6, 0.8), [3, 2])).to.deep.equal({ std: 0, rank: 1 });
    });

    it('finds all dimensions in orthogonal embeddings', () => {
      const { std, rank } = collapse(f32(1, 0, 0, 0, 1, 0, 0, 0, 1), [3, 3]);
      expect(rank).to.be.closeTo(3, 1e-5);
      expect(std).to.be.closeTo(Math.sqrt(2) / 3, 1e-5);
    });

    it('weighs dimensions by their singular values, with more and with fewer rows than columns', () => {
      // Singular values √3 and 1, whichever way round.
      const entropy = (...s: number[]) => {
        const all = s.reduce((a, b) => a + b);
        return Math.exp(-s.reduce((h, v) => h + (v / all) * Math.log(v / all), 0));
      };
      const expected = entropy(Math.sqrt(3), 1);
      expect(collapse(f32(1, 0, 1, 0, 1, 0, 0, 1), [4, 2]).rank).to.be.closeTo(expected, 1e-5);
      expect(collapse(f32(1, 1, 1, 0, 0, 0, 0, 1), [2, 4]).rank).to.be.closeTo(expected, 1e-5);
    });

    it('says so where embeddings are not finite', () => {
      expect(collapse(f32(1, NaN), [1, 2])).to.deep.equal({ std: NaN, rank: NaN });
    });
  });

  describe('sketch', () => {
    const layer = (values: Float32Array) => ({
      name: 'fc.weight',
      shape: [40, 50],
      slices: [
        [40, 50],
        [20, 25],
      ],
      values,
    });
    const a = numbers(2000, 1);
    const b = numbers(2000, 2);
    const dot = (x: Float32Array, y: Float32Array) => x.reduce((sum, v, i) => sum + v * y[i], 0);

    it('keeps lengths and angles of the weights of each width, nearly', () => {
      const [full, half] = [sketch([layer(a)], 2), sketch([layer(b)], 2)];
      const inSlice = (v: Float32Array) => v.map((x, i) => (i < 20 * 50 && i % 50 < 25 ? x : 0));
      for (const [w, of] of [(v: Float32Array) => v, inSlice].entries()) {
        const [x, y] = [of(a), of(b)];
        expect(dot(full[w], full[w]) / dot(x, x)).to.be.within(0.75, 1.25);
        const scale = Math.sqrt(dot(x, x) * dot(y, y));
        expect(Math.abs(dot(full[w], half[w]) - dot(x, y)) / scale).to.be.below(0.2);
      }
    });

    it('is linear', () => {
      const [sum] = sketch([layer(a.map((v, i) => v + b[i]))], 2);
      const [[x], [y]] = [sketch([layer(a)], 2), sketch([layer(b)], 2)];
      sum.forEach((v, i) => expect(v).to.be.closeTo(x[i] + y[i], 1e-5));
    });
  });

  describe('trajectory', () => {
    it('lays a plane through points that stand in one, up to rotation, with the last one in the middle', () => {
      // (0,0), (4,0), (4,2), (2,2) in the plane of the second and fourth axis of five.
      const points = [
        [0, 0],
        [4, 0],
        [4, 2],
        [2, 2],
      ].map(([x, y]) => f32(7, x, 7, y, 7));
      const { path, shares } = trajectory(points);
      expect(path[3]).to.deep.equal([0, 0]);
      for (let s = 0; s < 4; s++) {
        for (let t = 0; t < s; t++) {
          const expected = Math.hypot(points[s][1] - points[t][1], points[s][3] - points[t][3]);
          expect(Math.hypot(path[s][0] - path[t][0], path[s][1] - path[t][1])).to.be.closeTo(expected, 1e-6);
        }
      }
      expect(shares[0] + shares[1]).to.be.closeTo(1, 1e-9);
      expect(shares[0]).to.be.above(shares[1]);
    });

    it('stays where nothing moves', () => {
      const still = [f32(1, 2), f32(1, 2), f32(1, 2)];
      expect(trajectory(still).path.flat()).to.satisfy((all: number[]) => all.every((x) => Math.abs(x) < 1e-9));
    });
  });
});
