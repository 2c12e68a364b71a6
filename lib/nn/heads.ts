import { relu, type Tensor } from '../tensor';
import { SwitchableBatchNorm } from './batch-norm';
import type { Initializer } from './init';
import { SlimmableLinear, SwitchableLinear } from './linear';
import { Module, sumCosts, type Cost } from './module';
import { fixedChannels, slimChannels } from './widths';

/** What stands on the pooled features: a projector of one of the frameworks, or a classifier. */
export const HEADS = [
  'mocov2_slim',
  'mocov2_switch',
  'mocov3_slim',
  'simclr_slim',
  'supervised',
  'supervised_switch',
] as const;
export type HeadKind = (typeof HEADS)[number];

/** Maps features of width i to an embedding (or class scores) of the same length at every width. */
export interface Head extends Module {
  forward(features: Tensor, widthIndex: number): Tensor;
  cost(widthIndex: number): Cost;
}

/**
 * MoCo v2's projector: Linear(c·w → c·w), ReLU, Linear(→ dim), with biases; slimmable or switchable layers. It starts as
 * PyTorch's Linear does: N(0, 0.01) collapses on few features (docs/decisions.md).
 */
class MoCoV2Projector extends Module implements Head {
  private readonly layers: (SlimmableLinear | SwitchableLinear)[];

  constructor(init: Initializer, features: readonly number[], outDim: number, layer: 'slimmable' | 'switchable') {
    super();
    const Linear = layer === 'slimmable' ? SlimmableLinear : SwitchableLinear;
    this.layers = [
      this.addModule('0', new Linear(init, features, features, { defaultInit: true })),
      this.addModule('2', new Linear(init, features, fixedChannels(outDim, features), { defaultInit: true })),
    ];
  }

  forward(features: Tensor, widthIndex: number): Tensor {
    return this.layers[1].forward(relu(this.layers[0].forward(features, widthIndex)), widthIndex);
  }

  cost(widthIndex: number): Cost {
    return sumCosts(this.layers.map((l) => l.cost(widthIndex)));
  }
}

interface BatchNormMlpOptions {
  /** The first layer has a bias. */
  bias?: boolean;
  /** BatchNorm after the last layer. */
  lastNorm: 'affine' | 'plain' | 'none';
  defaultInit?: boolean;
}

/** Linear(→ int(mlp·w)), switchable BatchNorm, ReLU, Linear(→ dim) and, perhaps, switchable BatchNorm. */
export class BatchNormMlp extends Module implements Head {
  private readonly hidden: SlimmableLinear;
  private readonly norm: SwitchableBatchNorm;
  private readonly out: SlimmableLinear;
  private readonly lastNorm?: SwitchableBatchNorm;

  constructor(
    init: Initializer,
    features: readonly number[],
    mlpChannels: readonly number[],
    outDim: number,
    { bias = false, lastNorm, defaultInit }: BatchNormMlpOptions,
  ) {
    super();
    const outChannels = fixedChannels(outDim, features);
    this.hidden = this.addModule('0', new SlimmableLinear(init, features, mlpChannels, { bias, defaultInit }));
    this.norm = this.addModule('1', new SwitchableBatchNorm(init, mlpChannels));
    this.out = this.addModule('3', new SlimmableLinear(init, mlpChannels, outChannels, { bias: false, defaultInit }));
    if (lastNorm !== 'none') {
      this.lastNorm = this.addModule(
        '4',
        new SwitchableBatchNorm(init, outChannels, { affine: lastNorm === 'affine' }),
      );
    }
  }

  forward(features: Tensor, widthIndex: number): Tensor {
    const hidden = this.norm.forward(this.hidden.forward(features, widthIndex), widthIndex, { relu: true });
    const out = this.out.forward(hidden, widthIndex);
    return this.lastNorm ? this.lastNorm.forward(out, widthIndex) : out;
  }

  cost(widthIndex: number): Cost {
    const layers = [this.hidden, this.norm, this.out, ...(this.lastNorm ? [this.lastNorm] : [])];
    return sumCosts(layers.map((l) => l.cost(widthIndex)));
  }
}

/**
 * Makes the head of a network.
 * @param features channels of the pooled features, of every width
 * @param outDim embedding dimension or number of classes
 * @param mlpDim hidden channels of `mocov3_slim` and `simclr_slim` at width 1
 */
export function makeHead(
  kind: HeadKind,
  init: Initializer,
  features: readonly number[],
  widths: readonly number[],
  outDim: number,
  mlpDim?: number,
): Head {
  const needsMlp = kind === 'mocov3_slim' || kind === 'simclr_slim';
  if (needsMlp !== (mlpDim !== undefined)) {
    throw new RangeError(
      `[head] mlpDim is ${needsMlp ? 'needed for' : 'not used by'} head ${kind}, received ${mlpDim}`,
    );
  }
  switch (kind) {
    case 'mocov2_slim':
      return new MoCoV2Projector(init, features, outDim, 'slimmable');
    case 'mocov2_switch':
      return new MoCoV2Projector(init, features, outDim, 'switchable');
    case 'mocov3_slim':
      return new BatchNormMlp(init, features, slimChannels(mlpDim!, widths), outDim, { lastNorm: 'plain' });
    case 'simclr_slim':
      return new BatchNormMlp(init, features, slimChannels(mlpDim!, widths), outDim, {
        bias: true,
        lastNorm: 'affine',
      });
    case 'supervised':
      return new SlimmableLinear(init, features, fixedChannels(outDim, widths));
    case 'supervised_switch':
      return new SwitchableLinear(init, features, fixedChannels(outDim, widths));
  }
}

/** MoCo v3's predictor on embeddings: its projector without the last BatchNorm, in PyTorch's default initialisation. */
export function makePredictor(init: Initializer, widths: readonly number[], dim: number, mlpDim: number): Head {
  const [embedding, mlp] = [fixedChannels(dim, widths), slimChannels(mlpDim, widths)];
  return new BatchNormMlp(init, embedding, mlp, dim, { lastNorm: 'none', defaultInit: true });
}
