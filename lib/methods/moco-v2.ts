import { permutation, Philox, RandomStream } from '../data';
import {
  backward,
  concat,
  ema,
  enqueue,
  indexSelect,
  innerProducts,
  keep,
  l2Normalize,
  noGrad,
  randn,
  reshape,
  scope,
  slimInfoNCE,
  tensor,
  zeros,
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
import { SlimmableLoss, check, checkPositive, ofWidths, sumLosses, type SlimmableLossOptions } from './slimmable-loss';
import { PerBatchSize, rehearse } from './tensors';

export interface MoCoV2Options extends Omit<ResNetOptions, 'head' | 'outDim' | 'mlpDim'>, SlimmableLossOptions {
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
  /**
   * Both views are queries and keys: the loss is ℓ(q₁, k₂) + ℓ(q₂, k₁) against the queue as it was, and both views' keys
   * enter it. Default false.
   */
  symmetric?: boolean;
  /**
   * Groups of the batch that BatchNorm normalises apart, in place of several devices. The keys' groups are drawn at random,
   * so that the statistics of its group do not tell a query its positive. The running statistics move once per group.
   * Default 1: the whole batch.
   */
  batchNormSplits?: number;
}

// Parameters have the streams from 0 up; the queue's first negatives have one that no network reaches.
const QUEUE_STREAM = 2 ** 20;

/**
 * SlimCLR on MoCo v2: a slimmable query encoder, its momentum average as key encoder, and a queue of earlier keys as
 * negatives. Distillation is on the cosines to key and queue (default temperatures 5). The paper's `similarity` is fused
 * with InfoNCE; the other kinds that compare similarities store them, [N, 1 + K] for every width.
 * Zhao et al., "Slimmable Networks for Contrastive Self-supervised Learning", IJCV 2024.
 */
export class MoCoV2 implements Method {
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
  private readonly temperature: number;
  private readonly symmetric: boolean;
  private readonly batchNormSplits: number;
  private readonly seed: number;
  private readonly loss: SlimmableLoss;
  private readonly lossWeights: Tensor;
  private readonly fullWeight: Tensor;
  private readonly indices: PerBatchSize<{ candidates: Tensor }>;
  /** Batches shuffled so far: the next permutation follows from it. */
  private shuffles = 0;

  constructor(options: MoCoV2Options) {
    const {
      widths = DEFAULT_WIDTHS,
      head = 'mocov2_slim',
      dim = 128,
      queueSize = 65_536,
      temperature = 0.2,
      encoderMomentum = 0.999,
      symmetric = false,
      batchNormSplits = 1,
      ...backbone
    } = options;
    const { seed = 0, device } = backbone;
    const isCount = (n: number) => Number.isSafeInteger(n) && n > 0;
    checkPositive('moco-v2', { temperature });
    const inRange = encoderMomentum >= 0 && encoderMomentum < 1;
    check('moco-v2', 'encoderMomentum in [0, 1)', inRange, encoderMomentum);
    check('moco-v2', 'queueSize to be a positive integer', isCount(queueSize), queueSize);
    check('moco-v2', 'batchNormSplits to be a positive integer', isCount(batchNormSplits), batchNormSplits);
    check('moco-v2', 'head mocov2_slim or mocov2_switch', head === 'mocov2_slim' || head === 'mocov2_switch', head);
    this.loss = new SlimmableLoss('moco-v2', widths, 5, options);
    this.temperature = temperature;
    this.symmetric = symmetric;
    this.batchNormSplits = batchNormSplits;
    this.seed = seed;

    // Of one seed, so the key encoder starts with the query encoder's weights.
    this.widths = widths;
    this.encoderQ = new SlimmableResNet({ ...backbone, widths, head, outDim: dim });
    this.encoderK = new SlimmableResNet({ ...backbone, widths, head, outDim: dim }).freeze();
    this.queue = keep(
      scope(() => noGrad(() => l2Normalize(randn([queueSize, dim], { seed, stream: QUEUE_STREAM, device })))),
    );
    this.queuePointer = keep(tensor([0], [1], { dtype: 'int64', device }));
    this.encoderMomentum = keep(tensor([encoderMomentum], [1], { device }));
    this.lossWeights = keep(tensor(this.loss.weights, [widths.length], { device }));
    this.fullWeight = keep(tensor([1], [1], { device }));
    this.indices = new PerBatchSize((n) => candidates(n, queueSize, device));
  }

  /** Not with split BatchNorm, whose permutations are JavaScript's. */
  get recordable(): boolean {
    return this.batchNormSplits === 1;
  }

  setProgress(): void {}

  get encoder(): SlimmableResNet {
    return this.encoderQ;
  }

  get momentumEncoder(): SlimmableResNet {
    return this.encoderK;
  }

  /**
   * Of a batch in parts, all meet the same queue, which takes their keys after the last: so the mean of the parts'
   * gradients is that of the batch, but for BatchNorm, whose statistics are each part's own.
   * @param xq query view [N, 3, H, W]
   * @param xk key view of the same pictures
   */
  step(xq: Tensor, xk: Tensor, { slim, first = true, last = true, only, lossScale }: StepOptions): StepLoss {
    return scope(() => {
      const widths = slim ? this.widths : this.widths.slice(0, 1);
      this.encoderQ.packWeights(widths.length);
      const queriesOf = (x: Tensor) => ofWidths(widths, only, (i) => this.query(x, i));
      const [q1, q2] = [queriesOf(xq), this.symmetric ? queriesOf(xk) : null];

      if (first) ema(values(this.encoderK.parameters()), values(this.encoderQ.parameters()), this.encoderMomentum);
      this.encoderK.packWeights(1);
      const [k2, k1] = noGrad(() => [this.key(xk), this.symmetric ? this.key(xq) : null]);

      let losses = this.contrast(q1, k2);
      if (q2 && k1) losses = sumLosses(losses, this.contrast(q2, k1));
      backward(losses.loss, lossScale);
      this.keys.push(...(k1 ? [k1, k2] : [k2]).map(keep));
      if (last) this.enqueueKeys();
      return losses;
    });
  }

  /**
   * The loss of all widths in one direction, against the queue as it is.
   * @param queries unit rows [N, dim] of each width, or of the full network alone during slow start
   * @param key unit rows [N, dim]: the positives
   */
  contrast(queries: readonly Tensor[], key: Tensor): StepLoss {
    const { loss, queue, fullWeight } = this;
    const { distill, teacherTemperature, studentTemperature, aux, fullDistill } = loss;
    const common = { key, queue, temperature: this.temperature, teacherTemperature, studentTemperature, aux };
    if (distill === 'similarity' || distill === 'none') {
      const weights = queries.length === 1 ? fullWeight : this.lossWeights;
      return slimInfoNCE({ ...common, queries, weights, distill, fullDistill });
    }
    const keys = concat([key, queue]);
    const positives = zeros([key.shape[0]], { dtype: 'int32', device: key.device });
    const outputs = queries.map((q) => ({
      loss: slimInfoNCE({ ...common, queries: [q], weights: fullWeight, distill: 'none' }).loss,
      embeddings: q,
      logits: () => this.cosines(q, keys),
      positives,
    }));
    return loss.combine(outputs);
  }

  /** Cosines [N, 1 + K] of the queries to their own key, then to the queue; keys [N + K, dim] are those of both. */
  private cosines(q: Tensor, keys: Tensor): Tensor {
    const [n, all] = [q.shape[0], keys.shape[0]];
    const cosines = reshape(innerProducts(q, keys), [n * all]);
    return reshape(indexSelect(cosines, this.indices.get(n).candidates), [n, all - n + 1]);
  }

  parameters(): Map<string, Tensor> {
    return this.encoderQ.parameters();
  }

  slices(): Map<string, Slices> {
    return this.encoderQ.slices();
  }

  rehearse<T>(work: () => T): T {
    const { shuffles } = this;
    try {
      return rehearse(this.tensors(), work);
    } finally {
      this.shuffles = shuffles;
    }
  }

  /**
   * `encoder_q.*`, `encoder_k.*`, `queue` [dim, K] and `queue_ptr` [1]; with split BatchNorm also `batch_shuffles` [1].
   */
  async state(): Promise<Map<string, HostTensor>> {
    const shuffles = BigInt64Array.of(BigInt(this.shuffles));
    const state = await readState(this.tensors());
    state.set('queue', transpose(state.get('queue')!));
    if (this.batchNormSplits > 1) state.set('batch_shuffles', { dtype: 'I64', shape: [1], data: shuffles });
    return state;
  }

  loadState(source: StateSource): void {
    const state = new Map(source);
    const pointer = state.get('queue_ptr')?.data;
    if (pointer instanceof BigInt64Array && pointer.length === 1) {
      const inQueue = pointer[0] >= 0n && pointer[0] < BigInt(this.queue.shape[0]);
      check('moco-v2', `queue_ptr in [0, ${this.queue.shape[0]})`, inQueue, pointer[0]);
    }
    const queue = state.get('queue');
    if (queue?.data instanceof Float32Array) {
      const { shape, data } = queue;
      const expected = [...this.queue.shape].reverse();
      const remedy = 'use the dim and the queue size that the state was saved with';
      const received = `[${shape.join(', ')}]; ${remedy}`;
      check('moco-v2', `queue [${expected.join(', ')}]`, shape.join() === expected.join(), received);
      state.set('queue', transpose({ dtype: 'F32', shape, data }));
    }
    const shuffles = state.get('batch_shuffles')?.data;
    if (this.batchNormSplits > 1) {
      const valid = shuffles instanceof BigInt64Array && shuffles.length === 1 && shuffles[0] >= 0n;
      check('moco-v2', 'batch_shuffles to be a count', valid, shuffles?.constructor.name);
      state.delete('batch_shuffles');
    }
    loadTensors(`MoCo v2 on ${this.encoderQ.arch}`, this.tensors(), state);
    if (shuffles instanceof BigInt64Array) this.shuffles = Number(shuffles[0]);
  }

  dispose(): void {
    const { encoderQ, encoderK, indices, queue, queuePointer, encoderMomentum, lossWeights, fullWeight } = this;
    const tensors = [queue, queuePointer, encoderMomentum, lossWeights, fullWeight, ...this.keys.splice(0)];
    for (const part of [encoderQ, encoderK, indices, ...tensors]) part.dispose();
  }

  /** Puts the keys of all parts of the batch into the queue. */
  private enqueueKeys(): void {
    for (const key of this.keys.splice(0)) {
      enqueue(this.queue, key, this.queuePointer);
      key.dispose();
    }
  }

  /** Unit embeddings of the queries [N, dim] at width i. */
  private query(x: Tensor, i: number): Tensor {
    return l2Normalize(this.inSplits(x, (part) => this.encoderQ.forward(part, i)));
  }

  /** Unit embeddings of the keys [N, dim], in the order of the queries. */
  private key(x: Tensor): Tensor {
    const forward = (part: Tensor) => this.encoderK.forward(part, 0);
    if (this.batchNormSplits === 1) return l2Normalize(forward(x));
    const [n] = x.shape;
    const order = permutation(n, new Philox(this.seed, RandomStream.batchShuffle, this.shuffles++));
    const inverse = new Int32Array(n);
    order.forEach((from, to) => (inverse[from] = to));
    const rows = (index: Int32Array) => tensor(index, [n], { device: x.device });
    const shuffled = this.inSplits(indexSelect(x, rows(order)), forward);
    return l2Normalize(indexSelect(shuffled, rows(inverse)));
  }

  /** Runs the groups of a batch one by one, so that BatchNorm sees each alone. */
  private inSplits(x: Tensor, forward: (part: Tensor) => Tensor): Tensor {
    const [n, splits] = [x.shape[0], this.batchNormSplits];
    if (splits === 1) return forward(x);
    check('moco-v2', `at least 2 pictures in each of ${splits} batchNormSplits`, n >= 2 * splits, n);
    const groups = Array.from({ length: splits }, (_, s) => {
      const [begin, end] = [Math.floor((n * s) / splits), Math.floor((n * (s + 1)) / splits)];
      const index = Int32Array.from({ length: end - begin }, (_, i) => begin + i);
      return forward(indexSelect(x, tensor(index, [index.length], { device: x.device })));
    });
    return concat(groups);
  }

  private tensors(): Map<string, Tensor> {
    return new Map<string, Tensor>([
      ['queue', this.queue],
      ['queue_ptr', this.queuePointer],
      ...underPrefix('encoder_q.', this.encoderQ.stateDict()),
      ...underPrefix('encoder_k.', this.encoderK.stateDict()),
    ]);
  }
}

/** Of the cosines [N, N + K] to the keys of the batch and the queue: each row's own key, then the queue. */
function candidates(n: number, k: number, device?: Device): { candidates: Tensor } {
  const index = new Int32Array(n * (1 + k));
  for (let r = 0, at = 0; r < n; r++) {
    index[at++] = r * (n + k) + r;
    for (let j = 0; j < k; j++) index[at++] = r * (n + k) + n + j;
  }
  return { candidates: tensor(index, [index.length], { device }) };
}

const values = (tensors: Map<string, Tensor>) => [...tensors.values()];

function transpose({ dtype, shape: [rows, columns], data }: HostTensor): HostTensor {
  const out = new Float32Array(data.length);
  const source = data as Float32Array;
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[c * rows + r] = source[r * columns + c];
  return { dtype, shape: [columns, rows], data: out };
}
