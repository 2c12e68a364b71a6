import { expect } from 'chai';
import { lossWeights, type LossWeighting } from '../../lib/methods';

describe('loss weights', () => {
  // By hand from method.md.
  const four: Record<number, number[]> = {
    0: [1, 1, 1, 1],
    1: [0.4, 0.3, 0.2, 0.1],
    2: [1, 0.75, 0.5, 0.25],
    3: [1.6, 1.2, 0.8, 0.4],
    5: [2.5, 1, 1, 1],
    6: [1.538, 1.077, 0.769, 0.615],
    7: [1.75, 1, 1, 1],
  };
  for (const [weighting, expected] of Object.entries(four)) {
    it(`weighting ${weighting} on widths 1, 0.75, 0.5, 0.25`, () => {
      expect(lossWeights([1, 0.75, 0.5, 0.25], Number(weighting) as LossWeighting)).to.deep.equal(expected);
    });
  }

  it('rounds weightings 1, 3 and 6 to three digits, ties to even', () => {
    expect(lossWeights([1, 0.5, 0.25], 1)).to.deep.equal([0.571, 0.286, 0.143]);
    expect(lossWeights([1, 0.5, 0.25], 3)).to.deep.equal([1.714, 0.857, 0.429]);
    expect(lossWeights([1, 0.5, 0.25], 6)).to.deep.equal([1.312, 0.938, 0.75]);
  });

  it('gives a network of one width the weight 1', () => {
    for (const weighting of [0, 1, 2, 3, 5, 6, 7] as const) expect(lossWeights([1], weighting)).to.deep.equal([1]);
  });

  it('has no weighting 4', () => {
    expect(() => lossWeights([1, 0.5], 4 as LossWeighting)).to.throw(RangeError, /0, 1, 2, 3, 5, 6, 7, received 4/);
  });
});
