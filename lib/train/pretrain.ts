import { existsSync, rmdirSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { imageCount, scanImageFolder, splitBatch, stepsPerEpoch, trainingBatches, type Batch } from '../data';
import { acquireRunLock, atomicWrite, eventFiles, readJsonl } from '../io';
import type { Method, StepLoss } from '../methods';
import { loadTensors, readState, underPrefix } from '../nn';
import { LossScaler, type Optimizer } from '../optim';
import { scope, type Device } from '../tensor';
import {
  CheckpointError,
  readCheckpoint,
  saveCheckpoint,
  withPrefix,
  type Checkpoint,
  type Progress,
} from './checkpoint';
import { ConfigError, differences, readSettings, resolveConfig, type RunConfig, type Settings } from './config';
import { prepareDevice } from './device';
import { diagnose, type Diagnosis } from './diagnose';
import { checkInitial, startFrom } from './encoder';
import { evaluateKnn } from './evaluate';
import { makeMethod } from './method';
import { Metrics } from './metrics';
import { readNetwork, type StoredNetwork } from './network';
import { learningRateAt, makeOptimizer } from './optimizer';
import { decodeConcurrency, digestOf, loadPictures, longestSide, reportBad, type Pictures } from './pictures';
import type { Report } from './report';
import { keptName, runFiles } from './run-files';
import { StepTimes } from './step-times';
import { TrainingStep } from './training-step';
import { stepInput, Views, type StepInput } from './views';

/** A run that cannot go on, such as one whose loss is no number any more. */
export class RunError extends Error {
  override name = 'RunError';
}

export interface PretrainOptions {
  /** Folder of the run; made where it is missing. */
  out: string;
  /** Go on with the run in `out`; settings that are left out are taken from there. Default false. */
  resume?: boolean;
  /** Aborting it finishes the step, saves and returns. */
  signal?: AbortSignal;
  /** Receives what happens; default: nothing is told. See {@link consoleReport}. */
  report?: Report;
}

export interface PretrainResult {
  checkpoint: string;
  /** Steps done, out of so many. */
  step: number;
  steps: number;
  /** True where the signal ended the run early, before its last step or its last evaluation. */
  interrupted: boolean;
  /** kNN accuracy by width (shares from 0 to 1) before training and now; null where nothing was evaluated. */
  untrained: Record<string, number> | null;
  knn: Record<string, number> | null;
  /** What guessing would give; null where the pictures have no classes. */
  chance: number | null;
}

/**
 * Pre-trains a slimmable network on a folder of pictures and writes `config.json`, `metrics.jsonl`, the same
 * numbers as TensorBoard events and `checkpoint.safetensors` into `out`. A resumed run computes, bit for bit, what the
 * uninterrupted one would have (on the same machine, with as many threads). A new run that fails before its first
 * checkpoint, written before the first step, leaves nothing in `out`.
 * @throws ConfigError for wrong settings, and for settings that differ from those of the run to be resumed
 * @throws DataError, RunLockError, WriteError, CheckpointError, SafetensorsError; RunError for a loss that is not finite
 */
export async function pretrain(settings: Partial<Settings>, options: PretrainOptions): Promise<PretrainResult> {
  const { out, resume = false, report = () => {} } = options;
  const checkpointFile = join(out, runFiles.checkpoint);
  if (resume && !existsSync(checkpointFile)) {
    throw new ConfigError(
      `[resume] ${out} holds no ${runFiles.checkpoint}; correct the folder, or start without --resume`,
    );
  }
  const former = resume && existsSync(join(out, runFiles.config)) ? readSettings(join(out, runFiles.config)) : {};
  const merged = { ...former, ...settings } as Settings;
  resolveConfig(merged, 1); // wrong settings are told before anything is read or written
  const folder = await scanImageFolder(merged.data);
  const lock = await acquireRunLock(out);
  try {
    if (!resume && existsSync(checkpointFile)) {
      throw new ConfigError(`[pretrain] ${out} already holds a run; go on with --resume, or choose another folder`);
    }
    if (!resume) checkNotForeign(join(out, runFiles.config));
    const config = resolveConfig(merged, await longestSide(folder.train), folder.classes.length);
    const checkpoint = resume ? await readCheckpoint(checkpointFile) : null;
    const initial = !resume && config.init ? await readNetwork(config.init) : null;
    if (initial) checkInitial(initial, config);
    const changed = checkpoint ? differences(config, checkpoint.config) : [];
    if (changed.length > 0) {
      throw new ConfigError(
        `[resume] cannot go on with other settings: ${changed.join(', ')}; leave them out or start anew`,
      );
    }
    const { device, why } = prepareDevice(config);
    report({ type: 'message', text: `device ${device}${why ? ` (${why})` : ''}, ${config.precision}` });
    const pictures = await loadPictures(folder, config, report);
    const run = new Run(config, pictures, device, options);
    try {
      run.open(checkpoint, initial);
      await atomicWrite(join(out, runFiles.config), [Buffer.from(`${JSON.stringify(config, null, 2)}\n`)]);
      return await run.train();
    } finally {
      run.close();
    }
  } finally {
    report({ type: 'end' });
    lock.release();
  }
}

/** @throws ConfigError where a file of the name is there that no run wrote: a run would replace it */
function checkNotForeign(configFile: string): void {
  if (!existsSync(configFile)) return;
  try {
    readSettings(configFile);
  } catch {
    throw new ConfigError(`[pretrain] ${configFile} is not of a run and would be replaced; choose another folder`);
  }
}

/** Sums of the losses since the last log line or the beginning of the epoch. */
class LossWindow {
  private loss = 0;
  private readonly widths: { sum: number; count: number }[] = [];
  private steps = 0;

  add(loss: number, perWidth: Float32Array): void {
    this.loss += loss;
    this.steps++;
    perWidth.forEach((value, i) => {
      this.widths[i] ??= { sum: 0, count: 0 };
      this.widths[i].sum += value;
      this.widths[i].count++;
    });
  }

  /** The means, in total and by width. */
  means(names: readonly number[]): { loss: number; losses: Record<string, number> } {
    const losses = Object.fromEntries(this.widths.map(({ sum, count }, i) => [String(names[i]), sum / count]));
    return { loss: this.loss / this.steps, losses };
  }
}

/** Steps that a time per step is the mean of, at least: see {@link StepTimes}. */
const leastTimed = 10;

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b) / values.length;

/** One run in memory: the method, its optimizer and where it stands. */
class Run {
  private step = 0;
  private readonly method: Method;
  private readonly optimizer: Optimizer;
  /** In fp16 only. */
  private readonly scaler: LossScaler | null;
  private readonly views: Views;
  /** Of the full network alone, then of all widths. */
  private phase: { slim: boolean; step: TrainingStep } | null = null;
  private readonly stepsPerEpoch: number;
  private readonly steps: number;
  private readonly digest: string;
  private readonly report: Report;
  private readonly checkpointFile: string;
  private metrics?: Metrics;
  private window = new LossWindow();
  private readonly times: StepTimes;
  /** Whether it began anew and has put files into its folder. */
  private begun = false;
  private savedStep: number | null = null;
  private evaluations = new Map<number, Record<string, number>>();
  private evaluationLeftOut = false;

  constructor(
    private readonly config: RunConfig,
    private readonly pictures: Pictures,
    private readonly device: Device,
    private readonly options: PretrainOptions,
  ) {
    const { batch, epochs } = config;
    this.report = options.report ?? (() => {});
    this.stepsPerEpoch = stepsPerEpoch(pictures.train, batch);
    this.steps = this.stepsPerEpoch * epochs;
    if (this.steps === 0) {
      const count = imageCount(pictures.train);
      throw new ConfigError(`[pretrain] a batch of ${batch} needs as many pictures, there are ${count}; lower --batch`);
    }
    this.digest = digestOf(pictures.train, config.data);
    this.checkpointFile = join(options.out, runFiles.checkpoint);
    this.method = makeMethod(config, device);
    this.optimizer = makeOptimizer(this.method.parameters(), config);
    this.scaler = config.precision === 'fp16' ? new LossScaler({ device }) : null;
    this.views = new Views(pictures.train, config, device);
    this.times = new StepTimes(Math.max(leastTimed, config.logEvery));
  }

  /** Begins anew, perhaps from the weights of an initial network, or sets everything to where the checkpoint stands. */
  open(checkpoint: Checkpoint | null, initial: StoredNetwork | null): void {
    const metricsFile = join(this.options.out, runFiles.metrics);
    if (!checkpoint) {
      if (initial) {
        const { encoder, momentumEncoder } = this.method;
        const copied = startFrom(encoder, initial);
        if (momentumEncoder) startFrom(momentumEncoder, initial);
        this.report({ type: 'message', text: `starting from ${initial.file}: ${copied}` });
      }
      this.begun = true;
      this.metrics = Metrics.create(metricsFile);
      return;
    }
    this.restore(checkpoint);
    this.metrics = Metrics.resume(metricsFile, this.step);
    for (const { step, knn } of readJsonl(metricsFile)) {
      if (knn) this.evaluations.set(step as number, knn as Record<string, number>);
    }
    const epoch = (this.step / this.stepsPerEpoch).toFixed(2);
    this.report({ type: 'message', text: `going on from step ${this.step} of ${this.steps} (epoch ${epoch})` });
  }

  private restore({ file, progress, tensors }: Checkpoint): void {
    const count = imageCount(this.pictures.train);
    if (progress.pictures !== count || progress.digest !== this.digest) {
      const difference =
        progress.pictures === count ? 'other names or sizes' : `${count} now, ${progress.pictures} then`;
      throw new RunError(
        `[resume] the pictures in ${this.config.data} are not those that the run began with: ${difference}`,
      );
    }
    try {
      this.method.loadState(withPrefix(tensors, 'module.'));
      loadTensors('the optimizer', this.optimizer.state, withPrefix(tensors, 'optimizer.'));
      if (this.scaler) loadTensors('the loss scale', this.scaler.state, withPrefix(tensors, 'loss_scale.'));
    } catch (error) {
      throw new CheckpointError(`[checkpoint] ${file}: ${(error as Error).message}`);
    }
    this.step = this.savedStep = progress.step;
  }

  async train(): Promise<PretrainResult> {
    const { signal } = this.options;
    const { batch: batchSize, seed, epochs, image } = this.config;
    this.report({
      type: 'start',
      epochs,
      steps: this.steps,
      slowStartSteps: this.slowStartSteps,
      slimCost: this.slimCost(),
    });
    if (this.config.widths.length > 1 && this.slowStartSteps >= this.steps) {
      const text = `slow start lasts to the end (slowStart ${this.config.slowStart}): the full network is trained alone`;
      this.report({ type: 'message', text });
    }
    if (!this.evaluations.has(this.step)) await this.evaluate();
    if (this.step === 0) {
      await this.keep();
      await this.save();
    }

    const batches = trainingBatches(this.pictures.train, {
      batchSize,
      seed,
      epochs,
      epoch: Math.floor(this.step / this.stepsPerEpoch),
      step: this.step % this.stepsPerEpoch,
      outputSize: image,
      concurrency: decodeConcurrency,
      onBad: (bad) => reportBad(bad, this.report),
    });
    this.times.resume();
    let pending: Promise<void> = Promise.resolve();
    if (this.step < this.steps && !signal?.aborted) {
      for await (const batch of batches) {
        const lr = learningRateAt(this.config, this.step, this.stepsPerEpoch, this.slim);
        const { losses, diagnosis } = this.enqueue(batch, lr);
        // The step before is awaited while this one computes, so that the device never waits for JavaScript.
        await pending;
        pending = this.read(losses, diagnosis, ++this.step, lr);
        pending.catch(() => {}); // thrown where it is awaited
        const epochDone = this.step % this.stepsPerEpoch === 0;
        if (!epochDone && !signal?.aborted) continue;
        await pending;
        if (epochDone) {
          await this.evaluate();
          await this.keep();
        }
        const due = (this.step / this.stepsPerEpoch) % this.config.checkpointEvery === 0;
        if (due || this.step === this.steps || signal?.aborted) await this.save();
        if (signal?.aborted) break;
        this.window = new LossWindow();
        this.times.resume();
      }
    }
    return this.result();
  }

  close(): void {
    this.metrics?.close();
    if (this.begun && this.savedStep === null) this.removeBeginning();
    this.phase?.step.dispose();
    this.views.dispose();
    this.optimizer.dispose();
    this.scaler?.dispose();
    this.method.dispose();
  }

  /** Removes the files of a run that ended before its first checkpoint; what cannot be removed stays. */
  private removeBeginning(): void {
    const { out } = this.options;
    const kept = join(out, runFiles.kept);
    try {
      const files = [runFiles.config, runFiles.metrics].map((name) => join(out, name));
      for (const file of [...files, ...eventFiles(out), join(kept, keptName(0))]) rmSync(file, { force: true });
      if (existsSync(kept)) rmdirSync(kept);
    } catch {
      // the error that ended the run is the one to be told
    }
  }

  private get slowStartSteps(): number {
    return Math.ceil(this.config.slowStart * this.stepsPerEpoch);
  }

  /** Whether the sub-networks take part in the next step. */
  private get slim(): boolean {
    return this.step >= this.slowStartSteps;
  }

  /** Enqueues a whole step; nothing waits. Returns the losses of the batch's parts, and a diagnosis where one is due. */
  private enqueue(batch: Batch, lr: number): { losses: StepLoss[]; diagnosis: Promise<Diagnosis> | null } {
    const { accumulate, diagnoseEvery } = this.config;
    const inputs = () => splitBatch(batch, accumulate).map((part, i) => this.viewsOf(part, i));
    const due = diagnoseEvery > 0 && (this.step + 1) % diagnoseEvery === 0;
    this.method.setProgress(this.step / this.steps);
    const diagnosis = due ? scope(() => this.diagnose(inputs()))() : null;
    diagnosis?.catch(() => {}); // thrown where it is awaited
    this.optimizer.setLearningRate(lr);
    return { losses: this.currentStep().run(inputs), diagnosis };
  }

  /** The step of the phase that the run is in. */
  private currentStep(): TrainingStep {
    if (this.phase?.slim === this.slim) return this.phase.step;
    this.phase?.step.dispose();
    const { optimizer, slim } = this;
    const { clipGrad, eager } = this.config;
    const work = (inputs: readonly StepInput[]) => {
      optimizer.zeroGrad();
      const losses = this.computeGradients(inputs, slim);
      if (clipGrad > 0) optimizer.clipGradNorm(clipGrad);
      if (this.scaler) this.scaler.step(optimizer);
      else optimizer.step();
      return losses;
    };
    this.phase = { slim, step: new TrainingStep(this.device, work, eager || !this.method.recordable) };
    return this.phase.step;
  }

  /** The gradients of a batch in parts, of all widths or of one alone, and the losses of the parts. */
  private computeGradients(parts: readonly StepInput[], slim: boolean, only?: number): StepLoss[] {
    const lossScale = this.scaler?.scale;
    const losses = parts.map(({ x, target }, i) =>
      this.method.step(x, target, { slim, first: i === 0, last: i === parts.length - 1, only, lossScale }),
    );
    // Losses are means over a part's pictures.
    if (parts.length > 1) this.optimizer.scaleGradients(1 / parts.length);
    this.scaler?.unscale(this.optimizer);
    return losses;
  }

  /** What the method makes a step of: two views, or a view and labels. The same for every call within a step. */
  private viewsOf(part: Batch, index: number): StepInput {
    const drawn = this.step * this.config.batch + index * part.indices.length;
    return stepInput(this.views, this.config.method, part, drawn);
  }

  private diagnose(inputs: readonly StepInput[]): () => Promise<Diagnosis> {
    const { method, slim } = this;
    const step = (only: number) => void this.computeGradients(inputs, slim, only);
    return diagnose(method, slim ? method.widths.length : 1, step, inputs[0].x);
  }

  /** Waits for the losses of a step's parts, checks their means and logs. */
  private async read(
    parts: readonly StepLoss[],
    diagnosis: Promise<Diagnosis> | null,
    step: number,
    lr: number,
  ): Promise<void> {
    // All asked for at once: a read waits for what was enqueued before it, soon also for the next step.
    const [totals, widths, lossScale] = await Promise.all([
      Promise.all(parts.map((part) => part.loss.item())),
      Promise.all(parts.map((part) => part.perWidth.data() as Promise<Float32Array>)),
      this.scaler?.scale.item(),
    ]);
    for (const { loss, perWidth } of parts) {
      loss.dispose();
      perWidth.dispose();
    }
    const total = mean(totals);
    const perWidth = widths[0].map((_, i) => mean(widths.map((losses) => losses[i])));
    this.checkFinite(total, perWidth, step, lr);
    this.window.add(total, perWidth);
    this.times.add();
    this.report({ type: 'progress', step });
    const epoch = step / this.stepsPerEpoch;
    if (diagnosis) this.metrics?.write({ step, epoch, diagnosis: await diagnosis });
    if (step % this.config.logEvery !== 0 && step !== this.slowStartSteps && step !== this.steps) return;
    const { loss, losses: byWidth } = this.window.means(this.method.widths);
    const ms = this.times.mean;
    this.window = new LossWindow();
    if (step === this.slowStartSteps) this.times.clear();
    const imagesPerSecond = (1000 * this.config.batch) / ms;
    this.metrics?.write({
      step,
      epoch,
      loss,
      losses: byWidth,
      lr,
      ms,
      images_per_s: imagesPerSecond,
      loss_scale: lossScale,
    });
    this.report({ type: 'step', step, epoch, loss, losses: byWidth, lr, ms, imagesPerSecond });
  }

  private checkFinite(total: number, perWidth: Float32Array, step: number, lr: number): void {
    const wrong = this.method.widths.filter((_, i) => i < perWidth.length && !Number.isFinite(perWidth[i]));
    if (wrong.length === 0 && Number.isFinite(total)) return;
    const widths = wrong.length > 0 ? `at width ${wrong.join(', ')}` : 'in total';
    throw new RunError(
      `[pretrain] the loss of step ${step} (epoch ${(step / this.stepsPerEpoch).toFixed(2)}) is not finite ${widths}; the ` +
        `checkpoint of step ${this.savedStep} is intact. Lower the learning rate (--lr, now ${lr.toPrecision(3)}) or lengthen ` +
        'the warm-up (--warmup-epochs), and start anew',
    );
  }

  /** kNN of every width, where it is due at this step. An interruption leaves it out; the resumed run catches up. */
  private async evaluate(): Promise<void> {
    const { evalEvery } = this.config;
    const epoch = this.step / this.stepsPerEpoch;
    if (evalEvery === 0 || !this.pictures.test || (epoch % evalEvery !== 0 && this.step !== this.steps)) return;
    const { signal } = this.options;
    const knn = await evaluateKnn(this.method.encoder, this.pictures, this.config, this.device, { signal }).catch(
      (error: unknown) => {
        this.evaluationLeftOut = signal?.aborted ?? false;
        if (this.evaluationLeftOut) return null;
        throw error;
      },
    );
    if (!knn) return;
    this.evaluations.set(this.step, knn);
    this.metrics?.write({ step: this.step, epoch, knn });
    this.report({ type: 'knn', step: this.step, epoch, knn, chance: 1 / this.pictures.classes.length });
  }

  private async save(): Promise<void> {
    this.metrics?.flush();
    await this.write(this.checkpointFile);
    this.savedStep = this.step;
  }

  /**
   * Keeps a copy of the checkpoint, where one is due after this epoch. Comes before {@link save}: a run killed between the
   * two goes on from earlier and writes the same copy again.
   */
  private async keep(): Promise<void> {
    const { keepEvery } = this.config;
    const epoch = this.step / this.stepsPerEpoch;
    if (keepEvery === 0 || epoch % keepEvery !== 0) return;
    const folder = join(this.options.out, runFiles.kept);
    await mkdir(folder, { recursive: true });
    await this.write(join(folder, keptName(epoch)));
  }

  private async write(file: string): Promise<void> {
    const state = new Map([
      ...underPrefix('module.', await this.method.state()),
      ...underPrefix('optimizer.', await readState(this.optimizer.state)),
      ...underPrefix('loss_scale.', await readState(this.scaler?.state ?? new Map())),
    ]);
    const { step, stepsPerEpoch, digest } = this;
    const progress: Progress = { step, stepsPerEpoch, pictures: imageCount(this.pictures.train), digest };
    await saveCheckpoint(file, this.config, progress, state);
  }

  /**
   * What a step of all widths costs, in steps of the full network alone: forward and backward of each 3, and the forward
   * pass of a key encoder 1.
   */
  private slimCost(): number {
    const { image } = this.config;
    const { encoder, momentumEncoder, widths } = this.method;
    const macs = widths.map((_, i) => encoder.cost(i, [image, image]).backbone.macs);
    const key = momentumEncoder ? 1 : 0;
    return (key + (3 * macs.reduce((a, b) => a + b)) / macs[0]) / (key + 3);
  }

  private result(): PretrainResult {
    const evaluated = [...this.evaluations.keys()].sort((a, b) => a - b);
    const last = evaluated.at(-1);
    return {
      checkpoint: this.checkpointFile,
      step: this.step,
      steps: this.steps,
      interrupted: this.step < this.steps || this.evaluationLeftOut,
      untrained: this.evaluations.get(0) ?? null,
      knn: last === undefined ? null : this.evaluations.get(last)!,
      chance: this.pictures.test ? 1 / this.pictures.classes.length : null,
    };
  }
}
