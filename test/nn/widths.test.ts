import { expect } from 'chai';
import {
  checkWidths,
  fixedChannels,
  Initializer,
  slimChannels,
  SlimmableConv2d,
  SlimmableLinear,
  SlimmableResNet,
  SwitchableBatchNorm,
  SwitchableLinear,
} from '../../lib/nn';
import { randn, scope } from '../../lib/tensor';

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

  it('are given to layers and networks by their index: a width itself, or one too many, is refused', () => {
    scope(() => {
      const init = new Initializer(0);
      const [image, rows] = [randn([2, 4, 5, 5], { seed: 1 }), randn([2, 4], { seed: 1 })];
      const conv = new SlimmableConv2d(init, [4, 2], [4, 2], 3);
      const norm = new SwitchableBatchNorm(init, [4, 2]);
      const net = new SlimmableResNet({ arch: 'resnet20', head: 'mocov2_slim', outDim: 8, widths: [1, 0.5] });
      for (const index of [0.5, 2, -1, NaN]) {
        for (const call of [
          () => conv.forward(image, index),
          () => conv.cost(index, [5, 5]),
          () => norm.forward(image, index),
          () => norm.cost(index),
          () => new SlimmableLinear(init, [4, 2], [4, 2]).forward(rows, index),
          () => new SwitchableLinear(init, [4, 2], [4, 2]).forward(rows, index),
          () => net.features(randn([2, 3, 8, 8], { seed: 1 }), index),
          () => net.cost(index, [32, 32]),
        ]) {
          expect(call).to.throw(RangeError, `expected the index of one of 2 widths, 0 for the full network, received`);
        }
      }
    });
  });
});
