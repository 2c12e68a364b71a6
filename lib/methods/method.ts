import type { HostTensor, Slices, SlimmableResNet, StateSource } from '../nn';
import type { Tensor } from '../tensor';

/** The losses of a step: tensors on the device, to be read or disposed by the caller. */
export interface StepLoss {
  /** Σ_w λ_w·L_w, a scalar. */
  loss: Tensor;
  /** L_w of every width that ran, without λ: [W], or [1] during slow start. */
  perWidth: Tensor;
}

export interface StepOptions {
  /** False during slow start: the full network alone, with weight 1. */
  slim: boolean;
  /**
   * Whether these pictures are the first and the last ones of the optimizer's step: false where a batch is computed in
   * parts. Default true.
   */
  first?: boolean;
  last?: boolean;
  /**
   * Computes the gradient of one width's term λ_w·L_w alone, by the width's index. Default: of all terms. The losses are
   * those of all widths nonetheless.
   */
  only?: number;
  /** What the gradients are multiplied by, float32 of one element; the losses are not. Default: 1. */
  lossScale?: Tensor;
}

/** What a run trains: networks of all widths, and a step's losses with their gradients. */
export interface Method {
  readonly widths: readonly number[];
  /** The network that is trained, and whose features are evaluated. */
  readonly encoder: SlimmableResNet;
  /** The encoder's average, which makes the keys; null where both views go through the encoder itself. */
  readonly momentumEncoder: SlimmableResNet | null;
  /** Whether {@link step} can be recorded; not where it draws random numbers in JavaScript. */
  readonly recordable: boolean;
  /**
   * Sets what changes with the training and is no tensor's: to be called before a step, outside of a recording.
   * @param share of the training done, from 0 to 1
   */
  setProgress(share: number): void;
  /**
   * One step up to the gradients, which add to those of {@link parameters}; the optimizer's step follows. It only enqueues
   * work. A batch may come in parts, for less memory: their gradients' mean is that of the batch where the loss is a mean
   * over pictures. A loss over pairs of a batch, as of MoCo v3 and SimCLR, then has the part's pictures as negatives: it
   * is the mean of small batches' losses. BatchNorm's statistics are each part's own.
   * @param x a view of each picture [N, 3, H, W]
   * @param target what it belongs to: the other view of the same pictures [N, 3, H, W]; supervised: labels [N] int32
   */
  step(x: Tensor, target: Tensor, options: StepOptions): StepLoss;
  /** What the optimizer trains. */
  parameters(): Map<string, Tensor>;
  /** What each width uses of the parameters that they share, by the names of {@link parameters}. */
  slices(): Map<string, Slices>;
  /**
   * Runs `work`, which may take steps, and then puts back all that steps change but the gradients: running statistics, key
   * encoder, queue, random numbers.
   */
  rehearse<T>(work: () => T): T;
  /**
   * Everything that the next step depends on, by the names of the released checkpoints. (The optimizer has a state of its
   * own.)
   */
  state(): Promise<Map<string, HostTensor>>;
  /**
   * Continues from {@link state}.
   * @throws Error naming missing, unexpected and misshapen tensors; then nothing was changed
   */
  loadState(source: StateSource): void;
  dispose(): void;
}
