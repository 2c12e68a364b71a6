import {
  backward,
  ema,
  enqueue,
  keep,
  l2Normalize,
  noGrad,
  randn,
  scope,
  slimInfoNCE,
  tensor,
  type SlimInfoNCEOptions,
  type Tensor,
} from '../tensor';
import {
  DEFAULT_WIDTHS,
  SlimmableResNet,
  loadTensors,
  readState,
  type HostTensor,
  type ResNetOptions,
  type StateSource,
} from '../nn';
import { lossWeights, type LossWeighting } from './loss-weights';

export interface MoCoV2Options extends Omit<ResNetOptions, 'head' | 'outDim' | 'mlpDim'> {
  /** Projector: one shared weight (default) or one layer per width. */
  head?: 'mocov2_slim' | 'mocov2_switch';
  /** Embedding dimension. Default 128. */
  dim?: number;
  /** Negatives in the queue; need not be a multiple of the batch. Default 65,536. */
  queueSize?: number;
  /** Of InfoNCE. Default 0.2. */
  temperature?: number;
  /** Momentum m of the key encoder. Default 0.999. */
  encoderMomentum?: number;
  /** What the full network teaches the sub-networks: its distribution over the queue (default), or nothing. */
  distill?: 'similarity' | 'none';
  /** Softmax temperatures of distillation. Default 5 and 5. */
  teacherTemperature?: number;
  studentTemperature?: number;
  /** Weight a of distillation in a sub-network's loss: (1-a)·InfoNCE + a·KD. Default 0.5. */
  aux?: number;
  /** All larger widths teach a sub-network, instead of the full network only. Default false. */
  fullDistill?: boolean;
  /** Default 5; see {@link lossWeights}. */
  lossWeighting?: LossWeighting;
}

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
}

// Parameters have the streams from 0 up; the queue's first negatives have one that no network reaches.
const QUEUE_STREAM = 2 ** 20;

/**
 * SlimCLR on MoCo v2: a slimmable query encoder, its momentum average as key encoder, and a queue of earlier keys as
 * negatives.
 * Zhao et al., "Slimmable Networks for Contrastive Self-supervised Learning", IJCV 2024.
 */
export class MoCoV2 {
  readonly widths: readonly number[];
  readonly encoderQ: SlimmableResNet;
  readonly encoderK: SlimmableResNet;
  /** Unit rows [K, dim]. */
  readonly queue: Tensor;
  /** Row of the queue that the next key goes to, int64 [1]. */
  readonly queuePointer: Tensor;
  /** Momentum m of the key encoder, float32 [1]. */
  readonly encoderMomentum: Tensor;
  /** Keys of the parts of a batch so far. */
  private readonly keys: Tensor[] = [];
  private readonly lossWeights: Tensor;
  private readonly fullWeight: Tensor;
  private readonly loss: Omit<SlimInfoNCEOptions, 'queries' | 'key' | 'queue' | 'weights'>;

  constructor(options: MoCoV2Options) {
    const {
      widths = DEFAULT_WIDTHS,
      head = 'mocov2_slim',
      dim = 128,
      queueSize = 65_536,
      temperature = 0.2,
      encoderMomentum = 0.999,
      distill = 'similarity',
      teacherTemperature = 5,
      studentTemperature = 5,
      aux = 0.5,
      fullDistill = false,
      lossWeighting = 5,
      ...backbone
    } = options;
    const { seed = 0, device } = backbone;
    for (const [name, t] of Object.entries({ temperature, teacherTemperature, studentTemperature })) {
      check(`${name} > 0`, t > 0 && t < Infinity, t);
    }
    check('encoderMomentum in [0, 1)', encoderMomentum >= 0 && encoderMomentum < 1, encoderMomentum);
    check('aux in [0, 1]', aux >= 0 && aux <= 1, aux);
    check('queueSize to be a positive integer', Number.isSafeInteger(queueSize) && queueSize > 0, queueSize);
    const weights = lossWeights(widths, lossWeighting);
    check('distill similarity or none', distill === 'similarity' || distill === 'none', distill);
    check('head mocov2_slim or mocov2_switch', head === 'mocov2_slim' || head === 'mocov2_switch', head);
    this.loss = { temperature, teacherTemperature, studentTemperature, aux, distill, fullDistill };

    // Of one seed, so the key encoder starts with the query encoder's weights.
    this.widths = widths;
    this.encoderQ = new SlimmableResNet({ ...backbone, widths, head, outDim: dim });
    this.encoderK = new SlimmableResNet({ ...backbone, widths, head, outDim: dim }).freeze();
    this.queue = keep(
      scope(() => noGrad(() => l2Normalize(randn([queueSize, dim], { seed, stream: QUEUE_STREAM, device })))),
    );
    this.queuePointer = keep(tensor([0], [1], { dtype: 'int64', device }));
    this.encoderMomentum = keep(tensor([encoderMomentum], [1], { device }));
    this.lossWeights = keep(tensor(weights, [widths.length], { device }));
    this.fullWeight = keep(tensor([1], [1], { device }));
  }

  /**
   * One step up to the gradients, which add to those of {@link parameters}; the optimizer's step follows. It only
   * enqueues work.
   * @param xq query view [N, 3, H, W]
   * @param xk key view of the same images
   *
   * Of a batch in parts, the key encoder follows once, before the first, and all parts meet the same queue: it takes
   * their keys after the last. So the mean of the parts' gradients is that of the batch, but for BatchNorm's statistics,
   * which are each part's own.
   */
  step(xq: Tensor, xk: Tensor, { slim, first = true, last = true }: StepOptions): StepLoss {
    return scope(() => {
      const widths = slim ? this.widths : this.widths.slice(0, 1);
      const queries = widths.map((_, i) => l2Normalize(this.encoderQ.forward(xq, i)));

      if (first) ema(values(this.encoderK.parameters()), values(this.encoderQ.parameters()), this.encoderMomentum);
      const key = noGrad(() => l2Normalize(this.encoderK.forward(xk, 0)));

      const weights = slim ? this.lossWeights : this.fullWeight;
      const { loss, perWidth } = slimInfoNCE({ ...this.loss, queries, key, queue: this.queue, weights });
      backward(loss);
      this.keys.push(keep(key));
      if (last) this.enqueueKeys();
      return { loss, perWidth };
    });
  }

  private enqueueKeys(): void {
    for (const key of this.keys.splice(0)) {
      enqueue(this.queue, key, this.queuePointer);
      key.dispose();
    }
  }

  /** What the optimizer trains. */
  parameters(): Map<string, Tensor> {
    return this.encoderQ.parameters();
  }

  /**
   * Everything that the next step depends on, by the names of the released checkpoints: `encoder_q.*`, `encoder_k.*`,
   * `queue` [dim, K] and `queue_ptr` [1]. (The optimizer has a state of its own.)
   */
  async state(): Promise<Map<string, HostTensor>> {
    const state = await readState(this.tensors());
    state.set('queue', transpose(state.get('queue')!));
    return state;
  }

  /**
   * Continues from {@link state}.
   * @throws Error naming missing, unexpected and misshapen tensors; then nothing was changed
   */
  loadState(source: StateSource): void {
    const state = new Map(source);
    const pointer = state.get('queue_ptr')?.data;
    if (pointer instanceof BigInt64Array && pointer.length === 1) {
      const inQueue = pointer[0] >= 0n && pointer[0] < BigInt(this.queue.shape[0]);
      check(`queue_ptr in [0, ${this.queue.shape[0]})`, inQueue, pointer[0]);
    }
    const queue = state.get('queue');
    if (queue?.data instanceof Float32Array) {
      const { shape, data } = queue;
      const expected = [...this.queue.shape].reverse();
      const remedy = 'use the dim and the queue size that the state was saved with';
      check(`queue [${expected.join(', ')}]`, shape.join() === expected.join(), `[${shape.join(', ')}]; ${remedy}`);
      state.set('queue', transpose({ dtype: 'F32', shape, data }));
    }
    loadTensors(`MoCo v2 on ${this.encoderQ.arch}`, this.tensors(), state);
  }

  dispose(): void {
    this.encoderQ.dispose();
    this.encoderK.dispose();
    for (const t of this.keys) t.dispose();
    for (const t of [this.queue, this.queuePointer, this.encoderMomentum, this.lossWeights, this.fullWeight])
      t.dispose();
  }

  private tensors(): Map<string, Tensor> {
    const all = new Map<string, Tensor>([
      ['queue', this.queue],
      ['queue_ptr', this.queuePointer],
    ]);
    for (const [name, t] of this.encoderQ.stateDict()) all.set(`encoder_q.${name}`, t);
    for (const [name, t] of this.encoderK.stateDict()) all.set(`encoder_k.${name}`, t);
    return all;
  }
}

function check(expected: string, ok: boolean, received: string | number | bigint): void {
  if (!ok) throw new RangeError(`[moco-v2] expected ${expected}, received ${received}`);
}

const values = (tensors: Map<string, Tensor>) => [...tensors.values()];

function transpose({ dtype, shape: [rows, columns], data }: HostTensor): HostTensor {
  const out = new Float32Array(data.length);
  const source = data as Float32Array;
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[c * rows + r] = source[r * columns + c];
  return { dtype, shape: [columns, rows], data: out };
}
