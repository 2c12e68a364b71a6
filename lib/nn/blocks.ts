import type { Tensor } from '../tensor';
import { SwitchableBatchNorm } from './batch-norm';
import { SlimmableConv2d, type Size } from './conv';
import type { Initializer } from './init';
import { Module, sumCosts, type Cost } from './module';

export type BlockKind = 'basic' | 'cifar' | 'bottleneck';

/** Output channels per inner channel. */
export const EXPANSION: Record<BlockKind, number> = { basic: 1, cifar: 1, bottleneck: 4 };

/**
 * Residual block: ReLU(branch + shortcut). The branch of a basic block is 3×3 (stride), 3×3; of a bottleneck 1×1, 3×3
 * (stride), 1×1 to four times the channels, with γ of its last BatchNorm 0. A `cifar` block is basic with a ReLU at the
 * end of the branch too, as the released ResNet-20 computes it. A 1×1 convolution with BatchNorm is the shortcut where
 * the shape changes.
 */
export class ResidualBlock extends Module {
  private readonly convs: SlimmableConv2d[] = [];
  private readonly norms: SwitchableBatchNorm[] = [];
  private readonly shortcut?: { conv: SlimmableConv2d; norm: SwitchableBatchNorm };

  constructor(
    init: Initializer,
    private readonly kind: BlockKind,
    inChannels: readonly number[],
    innerChannels: readonly number[],
    outChannels: readonly number[],
    stride: number,
  ) {
    super();
    if (kind !== 'bottleneck') {
      this.addConv(init, inChannels, innerChannels, 3, stride);
      this.addConv(init, innerChannels, outChannels, 3, 1);
    } else {
      this.addConv(init, inChannels, innerChannels, 1, 1);
      this.addConv(init, innerChannels, innerChannels, 3, stride);
      this.addConv(init, innerChannels, outChannels, 1, 1, 0);
    }
    if (stride !== 1 || inChannels[0] !== outChannels[0]) {
      this.shortcut = {
        conv: this.addModule('shortcut.0', new SlimmableConv2d(init, inChannels, outChannels, 1, stride)),
        norm: this.addModule('shortcut.1', new SwitchableBatchNorm(init, outChannels)),
      };
    }
  }

  private addConv(
    init: Initializer,
    inChannels: readonly number[],
    outChannels: readonly number[],
    kernelSize: number,
    stride: number,
    weight = 1,
  ): void {
    const n = this.convs.length + 1;
    this.convs.push(this.addModule(`conv${n}`, new SlimmableConv2d(init, inChannels, outChannels, kernelSize, stride)));
    this.norms.push(this.addModule(`bn${n}`, new SwitchableBatchNorm(init, outChannels, { weight })));
  }

  /** [N, C, H, W] → [N, outChannels[i], H/stride, W/stride], in ReLU's range. */
  forward(x: Tensor, widthIndex: number): Tensor {
    const last = this.convs.length - 1;
    let y = x;
    for (let n = 0; n < last; n++) {
      y = this.norms[n].forward(this.convs[n].forward(y, widthIndex), widthIndex, { relu: true });
    }
    y = this.convs[last].forward(y, widthIndex);
    if (this.kind === 'cifar') {
      // Where the shortcut is x, the outcome of a ReLU, the sum has no negative part for the outer ReLU to cut.
      if (!this.shortcut) {
        return this.norms[last].forward(y, widthIndex, { relu: true, residual: x, residualLast: true });
      }
      const branch = this.norms[last].forward(y, widthIndex, { relu: true });
      const shortcut = this.shortcut.conv.forward(x, widthIndex);
      return this.shortcut.norm.forward(shortcut, widthIndex, { relu: true, residual: branch });
    }
    const residual = this.shortcut
      ? this.shortcut.norm.forward(this.shortcut.conv.forward(x, widthIndex), widthIndex)
      : x;
    return this.norms[last].forward(y, widthIndex, { relu: true, residual });
  }

  outputSize(input: Size): Size {
    return this.convs.reduce((size, conv) => conv.outputSize(size), input);
  }

  cost(widthIndex: number, input: Size): Cost {
    const costs: Cost[] = this.norms.map((norm) => norm.cost(widthIndex));
    let size = input;
    for (const conv of this.convs) {
      costs.push(conv.cost(widthIndex, size));
      size = conv.outputSize(size);
    }
    if (this.shortcut) costs.push(this.shortcut.conv.cost(widthIndex, input), this.shortcut.norm.cost(widthIndex));
    return sumCosts(costs);
  }
}
