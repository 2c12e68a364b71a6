import { backward, scope, softmaxCrossEntropy, type Tensor } from '../tensor';
import {
  DEFAULT_WIDTHS,
  SlimmableResNet,
  loadTensors,
  readState,
  type HostTensor,
  type ResNetOptions,
  type Slices,
  type StateSource,
} from '../nn';
import type { Method, StepLoss, StepOptions } from './method';
import { SlimmableLoss, check, ofWidths, type SlimmableLossOptions } from './slimmable-loss';
import { rehearse } from './tensors';

export interface SupervisedOptions extends Omit<ResNetOptions, 'head' | 'outDim' | 'mlpDim'>, SlimmableLossOptions {
  classes: number;
  /** Classifier: one shared weight or one layer per width (default), for the reason that the linear probe has one. */
  head?: 'supervised' | 'supervised_switch';
  /** Share of each label that is spread evenly over the classes. Default 0.1. */
  labelSmoothing?: number;
}

/**
 * Supervised slimmable training, for reference results: cross entropy at every width, and in-place distillation of the
 * full network's class scores into the sub-networks (default temperatures 1).
 * Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019.
 */
export class Supervised implements Method {
  readonly widths: readonly number[];
  readonly encoder: SlimmableResNet;
  readonly momentumEncoder = null;
  readonly recordable = true;
  private readonly labelSmoothing: number;
  private readonly loss: SlimmableLoss;

  constructor(options: SupervisedOptions) {
    const { widths = DEFAULT_WIDTHS, classes, head = 'supervised_switch', labelSmoothing = 0.1, ...backbone } = options;
    check('supervised', 'labelSmoothing in [0, 1)', labelSmoothing >= 0 && labelSmoothing < 1, labelSmoothing);
    check('supervised', 'at least 2 classes', classes >= 2, classes);
    check('supervised', 'head supervised or supervised_switch', head.startsWith('supervised'), head);
    const { distill } = options;
    const ofFeatures = distill === 'kd-features' || distill === 'mse-features';
    check('supervised', 'distillation of class scores (there are no embeddings)', !ofFeatures, distill);
    this.loss = new SlimmableLoss('supervised', widths, 1, options);
    this.labelSmoothing = labelSmoothing;
    this.widths = widths;
    this.encoder = new SlimmableResNet({ ...backbone, widths, head, outDim: classes });
  }

  setProgress(): void {}

  /**
   * @param x pictures [N, 3, H, W]
   * @param labels [N] int32
   */
  step(x: Tensor, labels: Tensor, { slim, only, lossScale }: StepOptions): StepLoss {
    return scope(() => {
      const { labelSmoothing } = this;
      const widths = slim ? this.widths : this.widths.slice(0, 1);
      this.encoder.packWeights(widths.length);
      const outputs = ofWidths(widths, only, (i) => {
        const logits = this.encoder.forward(x, i);
        const loss = softmaxCrossEntropy(logits, labels, { labelSmoothing });
        return { loss, embeddings: logits, logits: () => logits, positives: labels };
      });
      const losses = this.loss.combine(outputs);
      backward(losses.loss, lossScale);
      return losses;
    });
  }

  parameters(): Map<string, Tensor> {
    return this.encoder.parameters();
  }

  slices(): Map<string, Slices> {
    return this.encoder.slices();
  }

  rehearse<T>(work: () => T): T {
    return rehearse(this.encoder.stateDict(), work);
  }

  state(): Promise<Map<string, HostTensor>> {
    return readState(this.encoder.stateDict());
  }

  loadState(source: StateSource): void {
    loadTensors(`supervised training of ${this.encoder.arch}`, this.encoder.stateDict(), source);
  }

  dispose(): void {
    this.encoder.dispose();
  }
}
