import {
  backward,
  concat,
  indexSelect,
  innerProducts,
  l2Normalize,
  reshape,
  scale,
  scope,
  softmaxCrossEntropy,
  tensor,
  type Device,
  type Tensor,
} from '../tensor';
import {
  DEFAULT_WIDTHS,
  SlimmableResNet,
  loadTensors,
  readState,
  underPrefix,
  type HostTensor,
  type ResNetOptions,
  type Slices,
  type StateSource,
} from '../nn';
import type { Method, StepLoss, StepOptions } from './method';
import { SlimmableLoss, checkPositive, ofWidths, type SlimmableLossOptions } from './slimmable-loss';
import { PerBatchSize, rehearse } from './tensors';

export interface SimCLROptions extends Omit<ResNetOptions, 'head' | 'outDim'>, SlimmableLossOptions {
  /** Embedding dimension. Default 128. */
  dim?: number;
  /** Hidden channels of the projector. Default 2048. */
  mlpDim?: number;
  /** T of NT-Xent. Default 0.1. */
  temperature?: number;
}

/**
 * SlimCLR on SimCLR: one slimmable encoder embeds both views, and each embedding must find the other view of its picture
 * among the 2N-1 other embeddings of the batch (NT-Xent). Gradients flow through both sides of every similarity.
 * Distillation is on the cosines (default temperatures 5).
 * Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020.
 */
export class SimCLR implements Method {
  readonly widths: readonly number[];
  readonly encoder: SlimmableResNet;
  readonly momentumEncoder = null;
  readonly recordable = true;
  private readonly temperature: number;
  private readonly loss: SlimmableLoss;
  private readonly indices: PerBatchSize<{ others: Tensor; positives: Tensor }>;

  constructor(options: SimCLROptions) {
    const { widths = DEFAULT_WIDTHS, dim = 128, mlpDim = 2048, temperature = 0.1, ...backbone } = options;
    checkPositive('simclr', { temperature });
    this.loss = new SlimmableLoss('simclr', widths, 5, options);
    this.temperature = temperature;
    this.widths = widths;
    this.encoder = new SlimmableResNet({ ...backbone, widths, head: 'simclr_slim', outDim: dim, mlpDim });
    this.indices = new PerBatchSize((rows) => pairs(rows, backbone.device));
  }

  setProgress(): void {}

  /**
   * @param x1 a view [N, 3, H, W]
   * @param x2 the other view of the same pictures
   */
  step(x1: Tensor, x2: Tensor, { slim, only, lossScale }: StepOptions): StepLoss {
    return scope(() => {
      const widths = slim ? this.widths : this.widths.slice(0, 1);
      this.encoder.packWeights(widths.length);
      const embed = (x: Tensor, i: number) => l2Normalize(this.encoder.forward(x, i));
      const losses = this.contrast(ofWidths(widths, only, (i) => concat([embed(x1, i), embed(x2, i)])));
      backward(losses.loss, lossScale);
      return losses;
    });
  }

  /** The loss of all widths on unit embeddings [2N, dim] of each, the first views above the second ones. */
  contrast(embeddings: readonly Tensor[]): StepLoss {
    const [rows] = embeddings[0].shape;
    const { others, positives } = this.indices.get(rows);
    const outputs = embeddings.map((z) => {
      const cosines = reshape(innerProducts(z, z), [rows * rows]);
      const logits = reshape(indexSelect(cosines, others), [rows, rows - 1]);
      const loss = softmaxCrossEntropy(scale(logits, 1 / this.temperature), positives);
      return { loss, embeddings: z, logits: () => logits, positives };
    });
    return this.loss.combine(outputs);
  }

  parameters(): Map<string, Tensor> {
    return this.encoder.parameters();
  }

  slices(): Map<string, Slices> {
    return this.encoder.slices();
  }

  rehearse<T>(work: () => T): T {
    return rehearse(this.tensors(), work);
  }

  /** `encoder_q.*`. */
  state(): Promise<Map<string, HostTensor>> {
    return readState(this.tensors());
  }

  loadState(source: StateSource): void {
    loadTensors(`SimCLR on ${this.encoder.arch}`, this.tensors(), source);
  }

  dispose(): void {
    this.encoder.dispose();
    this.indices.dispose();
  }

  private tensors(): Map<string, Tensor> {
    return underPrefix('encoder_q.', this.encoder.stateDict());
  }
}

/** Of the similarities of M = 2N embeddings: all but those with themselves, and where the other view stands among them. */
function pairs(rows: number, device?: Device): { others: Tensor; positives: Tensor } {
  const others = new Int32Array(rows * (rows - 1));
  const positives = new Int32Array(rows);
  for (let r = 0, at = 0; r < rows; r++) {
    for (let c = 0; c < rows; c++) if (c !== r) others[at++] = r * rows + c;
    positives[r] = r < rows / 2 ? r + rows / 2 - 1 : r - rows / 2;
  }
  return {
    others: tensor(others, [others.length], { device }),
    positives: tensor(positives, [rows], { device }),
  };
}
