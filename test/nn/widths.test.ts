import { expect } from 'chai';
import { checkWidths, fixedChannels, slimChannels } from '../../lib/nn';

describe('widths', () => {
  it('accepts descending widths that start with 1', () => {
    for (const widths of [[1], [1, 0.5], [1, 0.75, 0.5, 0.25], [1, 0.9, 0.1]]) {
      expect(checkWidths(widths)).to.equal(widths);
    }
  });

  for (const [what, widths] of [
    ['a width over 1', [1.5, 1]],
    ['zero', [1, 0]],
    ['a negative width', [1, -0.5]],
    ['NaN', [1, NaN]],
  ] as const) {
    it(`refuses ${what}`, () => {
      expect(() => checkWidths(widths)).to.throw(RangeError, /\[widths\] expected numbers in \(0, 1\], received/);
    });
  }

  for (const [what, widths, remedy] of [
    ['an empty list', [], '1'],
    ['a list without 1', [0.5], '1, 0.5'],
    ['a width twice', [1, 0.5, 0.5], '1, 0.5'],
    ['another order', [0.25, 1, 0.5], '1, 0.5, 0.25'],
  ] as const) {
    it(`refuses ${what} and shows what would do`, () => {
      expect(() => checkWidths(widths)).to.throw(RangeError, `use [${remedy}]`);
    });
  }

  it('counts channels as int(c·w)', () => {
    expect(slimChannels(64, [1, 0.75, 0.5, 0.25])).to.deep.equal([64, 48, 32, 16]);
    expect(slimChannels(10, [1, 0.75, 0.25])).to.deep.equal([10, 7, 2]);
  });

  it('loses no channel to a rounding error', () => {
    expect(100 * 0.29).to.be.below(29);
    expect(slimChannels(100, [1, 0.29])).to.deep.equal([100, 29]);
  });

  it('refuses a width that leaves no channel', () => {
    expect(() => slimChannels(16, [1, 0.05])).to.throw(RangeError, /width 0.05 leaves none of 16 channels/);
  });

  it('repeats a fixed number of channels', () => {
    expect(fixedChannels(3, [1, 0.5])).to.deep.equal([3, 3]);
  });
});
