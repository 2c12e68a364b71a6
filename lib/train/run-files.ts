/** Names of the files in a run's folder. */
export const runFiles = {
  config: 'config.json',
  metrics: 'metrics.jsonl',
  checkpoint: 'checkpoint.safetensors',
  /** Folder of the checkpoints that `keepEvery` kept. */
  kept: 'checkpoints',
  landscape: 'landscape.json',
} as const;

/** The checkpoint kept after so many epochs. */
export const keptName = (epoch: number): string => `epoch-${epoch}.safetensors`;

/** What {@link keptName} names. */
export const keptCheckpoint = /^epoch-\d+\.safetensors$/;
