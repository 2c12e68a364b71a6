import { cast, globalAvgPool2d, maxPool2d, packWeights, type Device, type DType, type Tensor } from '../tensor';
import { SwitchableBatchNorm } from './batch-norm';
import { EXPANSION, ResidualBlock, type BlockKind } from './blocks';
import { SlimmableConv2d, type Size } from './conv';
import { HEADS, makeHead, type Head, type HeadKind } from './heads';
import { Initializer } from './init';
import { Module, sumCosts, type Cost } from './module';
import { DEFAULT_WIDTHS, checkWidths, fixedChannels, slimChannels } from './widths';

export type Stem = 'imagenet' | 'cifar';

interface Architecture {
  block: BlockKind;
  /** Blocks of every stage; each stage has twice the channels and half the size of the one before. */
  stages: readonly number[];
  baseWidth: number;
  stems: readonly Stem[];
}

const imagenet = (block: BlockKind, ...stages: number[]): Architecture => ({
  block,
  stages,
  baseWidth: 64,
  stems: ['imagenet', 'cifar'],
});
const cifar = (n: number): Architecture => ({ block: 'cifar', stages: [n, n, n], baseWidth: 16, stems: ['cifar'] });

/** The architectures by name. */
export const ARCHITECTURES = {
  resnet18: imagenet('basic', 2, 2, 2, 2),
  resnet34: imagenet('basic', 3, 4, 6, 3),
  resnet50: imagenet('bottleneck', 3, 4, 6, 3),
  resnet101: imagenet('bottleneck', 3, 4, 23, 3),
  resnet152: imagenet('bottleneck', 3, 8, 36, 3),
  resnet20: cifar(3),
  resnet32: cifar(5),
  resnet44: cifar(7),
  resnet56: cifar(9),
  resnet110: cifar(18),
} satisfies Record<string, Architecture>;
export type Arch = keyof typeof ARCHITECTURES;

/**
 * What activations are made of up to the pooled features; parameters and head are float32. `fp16` is for CUDA, and its
 * gradients need a scaled loss.
 */
export const PRECISIONS = { fp32: 'float32', bf16: 'bfloat16', fp16: 'float16' } as const satisfies Record<
  string,
  DType
>;
export type Precision = keyof typeof PRECISIONS;

export interface ResNetOptions {
  arch: Arch;
  head: HeadKind;
  /** Embedding dimension or number of classes. */
  outDim: number;
  /** Hidden channels of `mocov3_slim` and `simclr_slim`. */
  mlpDim?: number;
  /** Default {@link DEFAULT_WIDTHS}. */
  widths?: readonly number[];
  /** Channels of the stem at width 1. Default 64, or 16 for the CIFAR family (resnet20 … resnet110). */
  baseWidth?: number;
  /** `imagenet` (7×7/2 and max-pool 3×3/2) or `cifar` (3×3/1); the CIFAR family has `cifar` only. */
  stem?: Stem;
  precision?: Precision;
  seed?: number;
  device?: Device;
}

function oneOf<T extends string>(what: string, value: string, allowed: readonly T[]): T {
  if (!(allowed as readonly string[]).includes(value)) {
    throw new RangeError(`[resnet] expected ${what} to be one of ${allowed.join(', ')}, received ${value}`);
  }
  return value as T;
}

function positiveInteger(what: string, value: number): number {
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new RangeError(`[resnet] expected ${what} to be a positive integer, received ${value}`);
  }
  return value;
}

/**
 * ResNet that holds the networks of all its widths in one set of weights: width i computes with the first `int(c·w)`
 * channels of every layer and with BatchNorms of its own. Parameter names are those of the released checkpoints.
 */
export class SlimmableResNet extends Module {
  readonly arch: Arch;
  readonly widths: readonly number[];
  readonly baseWidth: number;
  readonly stem: Stem;
  /** Length of the pooled features of every width. */
  readonly featureDims: readonly number[];
  private readonly activations: DType;
  private readonly conv1: SlimmableConv2d;
  private readonly bn1: SwitchableBatchNorm;
  private readonly blocks: ResidualBlock[] = [];
  private readonly fc: Head;

  constructor(options: ResNetOptions) {
    super();
    const { head, outDim, mlpDim, widths = DEFAULT_WIDTHS, precision = 'fp32', seed = 0, device } = options;
    this.arch = oneOf('arch', options.arch, Object.keys(ARCHITECTURES) as Arch[]);
    const { block, stages, baseWidth, stems }: Architecture = ARCHITECTURES[this.arch];
    this.widths = checkWidths(widths);
    this.baseWidth = positiveInteger('baseWidth', options.baseWidth ?? baseWidth);
    this.stem = oneOf(`stem of ${this.arch}`, options.stem ?? stems[0], stems);
    this.activations = PRECISIONS[oneOf('precision', precision, Object.keys(PRECISIONS) as Precision[])];
    oneOf('head', head, HEADS);
    positiveInteger('outDim', outDim);
    if (mlpDim !== undefined) positiveInteger('mlpDim', mlpDim);

    const init = new Initializer(seed, device);
    const images = fixedChannels(3, widths);
    let channels = slimChannels(this.baseWidth, widths);
    this.conv1 = this.addModule(
      'conv1',
      this.stem === 'imagenet'
        ? new SlimmableConv2d(init, images, channels, 7, 2)
        : new SlimmableConv2d(init, images, channels, 3, 1),
    );
    this.bn1 = this.addModule('bn1', new SwitchableBatchNorm(init, channels));
    for (const [stage, depth] of stages.entries()) {
      const inner = this.baseWidth * 2 ** stage;
      const [innerChannels, outChannels] = [
        slimChannels(inner, widths),
        slimChannels(inner * EXPANSION[block], widths),
      ];
      for (let n = 0; n < depth; n++) {
        const stride = n === 0 && stage > 0 ? 2 : 1;
        const residual = new ResidualBlock(init, block, channels, innerChannels, outChannels, stride);
        this.blocks.push(this.addModule(`features.${this.blocks.length}`, residual));
        channels = outChannels;
      }
    }
    this.featureDims = channels;
    this.fc = this.addModule('fc', makeHead(head, init, channels, widths, outDim, mlpDim));
  }

  /**
   * Makes the convolutions' weights ready for the first `count` widths at once, which {@link forward} does one by one.
   * For the beginning of a training step: it holds until the weights change.
   */
  packWeights(count: number): void {
    const parameters = this.parameters();
    const convolutions = [...this.slices()].filter(([, [widest]]) => widest.length === 4);
    const slices = convolutions.flatMap(([name, byWidth]) =>
      byWidth.slice(0, count).map(([outChannels, inChannels]) => {
        return { weight: parameters.get(name)!, outChannels, inChannels };
      }),
    );
    packWeights(slices, this.activations);
  }

  /**
   * Pooled features of width i.
   * @param x normalised images [N, 3, H, W], of any type of {@link PRECISIONS}
   * @returns [N, featureDims[i]] float32
   */
  features(x: Tensor, widthIndex: number): Tensor {
    let y = x.dtype === this.activations ? x : cast(x, this.activations);
    y = this.bn1.forward(this.conv1.forward(y, widthIndex), widthIndex, { relu: true });
    if (this.stem === 'imagenet') y = maxPool2d(y, { kernelSize: 3, stride: 2, padding: 1 });
    for (const block of this.blocks) y = block.forward(y, widthIndex);
    return globalAvgPool2d(y);
  }

  /** Embedding (not normalised) or class scores of width i: [N, 3, H, W] → [N, outDim] float32. */
  forward(x: Tensor, widthIndex: number): Tensor {
    return this.fc.forward(this.features(x, widthIndex), widthIndex);
  }

  /** Parameters and multiply-accumulates of width i for one image of the given size. */
  cost(widthIndex: number, image: Size): { backbone: Cost; head: Cost } {
    const costs = [this.conv1.cost(widthIndex, image), this.bn1.cost(widthIndex)];
    let size = this.conv1.outputSize(image);
    if (this.stem === 'imagenet') size = [Math.ceil(size[0] / 2), Math.ceil(size[1] / 2)];
    for (const block of this.blocks) {
      costs.push(block.cost(widthIndex, size));
      size = block.outputSize(size);
    }
    return { backbone: sumCosts(costs), head: this.fc.cost(widthIndex) };
  }

  protected override describe(): string {
    return `${this.arch} (widths ${this.widths.join(', ')}; base width ${this.baseWidth}; stem ${this.stem})`;
  }
}
