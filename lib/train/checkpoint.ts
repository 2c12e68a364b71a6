import { readSafetensors, writeSafetensors, type SafetensorsTensor } from '../io';
import type { HostTensor } from '../nn';
import { checkSettings, settingInfo, settingNames, type RunConfig } from './config';

/** A file that is whole but no checkpoint of this project, or one that does not fit. */
export class CheckpointError extends Error {
  override name = 'CheckpointError';
}

/** The settings that say what was computed, without the paths and the free choices of one machine. */
export type CheckpointConfig = Omit<
  RunConfig,
  | 'data'
  | 'init'
  | 'device'
  | 'threads'
  | 'evalEvery'
  | 'checkpointEvery'
  | 'keepEvery'
  | 'logEvery'
  | 'diagnoseEvery'
  | 'eager'
>;

/** Where a run stands, beside its tensors. */
export interface Progress {
  /** Optimizer steps done. All random numbers follow from it and the seed. */
  step: number;
  stepsPerEpoch: number;
  /** The pictures it trains on: their number, and a digest of their names and sizes. */
  pictures: number;
  digest: string;
}

export interface Checkpoint {
  file: string;
  config: CheckpointConfig;
  progress: Progress;
  /** By name: `module.encoder_q.*`, `module.encoder_k.*`, `module.queue`, `module.queue_ptr`, `optimizer.momentum.*`. */
  tensors: Map<string, SafetensorsTensor>;
}

const format = 'slimclr-run-1';

/** The settings of a run that stand in its checkpoint. */
export function checkpointConfig(config: RunConfig): CheckpointConfig {
  const kept = settingNames.filter((name) => name !== 'data' && !settingInfo(name).free);
  return Object.fromEntries(kept.map((name) => [name, config[name]])) as unknown as CheckpointConfig;
}

/**
 * Writes the state of a run; the file that stood there is replaced only when the new one is whole on the disk. The same
 * state gives the same bytes.
 * @throws WriteError where the disk is full or the folder cannot be written; CheckpointError where a weight is not finite
 */
export async function saveCheckpoint(
  file: string,
  config: RunConfig,
  progress: Progress,
  tensors: ReadonlyMap<string, HostTensor>,
): Promise<void> {
  for (const [name, { data }] of tensors) {
    if (data instanceof Float32Array && !data.every(Number.isFinite)) {
      throw new CheckpointError(`[checkpoint] ${name} holds numbers that are not finite after step ${progress.step}`);
    }
  }
  await writeSafetensors(file, tensors as ReadonlyMap<string, SafetensorsTensor>, {
    format,
    config: JSON.stringify(checkpointConfig(config)),
    progress: JSON.stringify(progress),
  });
}

/**
 * Reads a checkpoint and checks that it is whole and one of ours.
 * @throws SafetensorsError, CheckpointError
 */
export async function readCheckpoint(file: string): Promise<Checkpoint> {
  const { metadata, tensors } = await readSafetensors(file);
  return parseCheckpoint(file, metadata, tensors);
}

/** As {@link readCheckpoint}, of a file that was read. */
export function parseCheckpoint(
  file: string,
  metadata: Record<string, string>,
  tensors: Checkpoint['tensors'],
): Checkpoint {
  if (metadata.format === 'pt' && metadata.network) {
    throw new CheckpointError(
      `[checkpoint] ${file} holds one width alone, which slimclr export wrote for PyTorch; give the checkpoint that it ` +
        'was cut from, whose every width can be used',
    );
  }
  if (metadata.format !== format) {
    throw new CheckpointError(
      `[checkpoint] ${file}: expected a checkpoint of slimclr pretrain (metadata "format": "${format}"), ` +
        `found ${JSON.stringify(metadata.format ?? null)}; give the checkpoint.safetensors of a run, or import a released one`,
    );
  }
  const config = parsePart(file, metadata, 'config');
  const progress = parsePart(file, metadata, 'progress') as unknown as Progress;
  for (const name of ['step', 'stepsPerEpoch', 'pictures'] as const) {
    if (!Number.isSafeInteger(progress[name]) || progress[name] < 0) {
      throw new CheckpointError(`[checkpoint] ${file}: its progress holds no valid ${name}; take another copy of it`);
    }
  }
  try {
    const checked = checkSettings({ ...config, data: '.' });
    return { file, config: checkpointConfig(checked as RunConfig), progress, tensors };
  } catch (error) {
    throw new CheckpointError(`[checkpoint] ${file}: ${(error as Error).message}`);
  }
}

/** An object that stands as JSON in the metadata. */
export function parsePart(file: string, metadata: Record<string, string>, name: string): Record<string, unknown> {
  let value: unknown = null;
  try {
    value = JSON.parse(metadata[name]);
  } catch {
    // told below
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new CheckpointError(`[checkpoint] ${file}: its metadata holds no valid "${name}"; take another copy of it`);
  }
  return value as Record<string, unknown>;
}

/** The tensors whose names begin with `prefix`, without it. */
export function withPrefix(tensors: Checkpoint['tensors'], prefix: string): Checkpoint['tensors'] {
  const chosen = [...tensors].filter(([name]) => name.startsWith(prefix));
  return new Map(chosen.map(([name, t]) => [name.slice(prefix.length), t]));
}
