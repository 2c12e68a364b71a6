import { conv2d, type Tensor } from '../tensor';
import type { Initializer } from './init';
import { Module, type Cost } from './module';
import { atWidth } from './widths';

/** Height and width of an activation. */
export type Size = readonly [height: number, width: number];

/**
 * Convolution without bias whose width i uses `weight[:outChannels[i], :inChannels[i]]` of one shared weight.
 * Square kernel of odd size; padding keeps the size at stride 1. Initialised by Kaiming's normal rule, fan-out, on the
 * full weight.
 */
export class SlimmableConv2d extends Module {
  private readonly weight: Tensor;
  private readonly padding: number;

  constructor(
    init: Initializer,
    private readonly inChannels: readonly number[],
    private readonly outChannels: readonly number[],
    private readonly kernelSize: number,
    private readonly stride = 1,
  ) {
    super();
    this.padding = (kernelSize - 1) / 2;
    const std = Math.sqrt(2 / (outChannels[0] * kernelSize * kernelSize));
    this.weight = this.addParameter(
      'weight',
      init.normal([outChannels[0], inChannels[0], kernelSize, kernelSize], std),
      outChannels.map((out, i) => [out, inChannels[i], kernelSize, kernelSize]),
    );
  }

  /** [N, inChannels[i], H, W] → [N, outChannels[i], ⌈H/stride⌉, ⌈W/stride⌉] */
  forward(x: Tensor, widthIndex: number): Tensor {
    const [outChannels, inChannels] = this.channels(widthIndex);
    return conv2d(x, this.weight, { outChannels, inChannels, stride: this.stride, padding: this.padding });
  }

  outputSize([h, w]: Size): Size {
    return [Math.ceil(h / this.stride), Math.ceil(w / this.stride)];
  }

  cost(widthIndex: number, input: Size): Cost {
    const [outChannels, inChannels] = this.channels(widthIndex);
    const parameters = outChannels * inChannels * this.kernelSize ** 2;
    const [h, w] = this.outputSize(input);
    return { parameters, macs: parameters * h * w };
  }

  /** Out and in. */
  private channels(widthIndex: number): [number, number] {
    return [atWidth('conv', this.outChannels, widthIndex), atWidth('conv', this.inChannels, widthIndex)];
  }
}
