import { DataError, scanImageFolder } from '../data';
import type { SlimmableResNet } from '../nn';
import type { Device } from '../tensor';
import { prepareDevice } from './device';
import { loadEncoder } from './encoder';
import { extractFeatures, fingerprint, type FeatureSet } from './features';
import { knnAccuracy, type KnnAccuracyOptions } from './knn';
import { linearAccuracy, type LinearProbeOptions } from './linear-probe';
import { loadPictures, type Pictures } from './pictures';
import type { Report } from './report';
import type { ViewSettings } from './views';

/**
 * Features of labelled pictures to train and to test on, from a frozen network.
 * @throws DataError where the pictures lack classes or a test set
 */
export async function frozenFeatures(
  encoder: SlimmableResNet,
  pictures: Pictures,
  settings: ViewSettings,
  device: Device,
  signal?: AbortSignal,
): Promise<{ train: FeatureSet; test: FeatureSet }> {
  if (!pictures.test || !pictures.train.labels) {
    throw new DataError(
      '[evaluate] expected pictures in class folders, train/CLASS/* and test/CLASS/*, received pictures without ' +
        (pictures.train.labels ? 'a test set' : 'classes'),
    );
  }
  const train = await extractFeatures(encoder, pictures.train, settings, device, signal);
  const test = await extractFeatures(encoder, pictures.test, settings, device, signal);
  return { train, test };
}

/**
 * kNN accuracy of every width of a network, by width.
 * @param options.signal aborting it ends the evaluation with the signal's reason
 */
export async function evaluateKnn(
  encoder: SlimmableResNet,
  pictures: Pictures,
  settings: ViewSettings,
  device: Device,
  { signal, ...options }: KnnAccuracyOptions & { signal?: AbortSignal } = {},
): Promise<Record<string, number>> {
  const { train, test } = await frozenFeatures(encoder, pictures, settings, device, signal);
  return knnAccuracy(train, test, pictures.classes.length, device, options);
}

/** Where a checkpoint is evaluated, and on what. */
export interface EvaluateOptions {
  checkpoint: string;
  /** Folder with train/CLASS/* and test/CLASS/*. */
  data: string;
  /** Use so many of the training pictures, 0 (default): all. */
  limit?: number;
  /** Default auto. */
  device?: string;
  /** Default 0: all cores. */
  threads?: number;
  report?: Report;
}

/**
 * Evaluates every width of a checkpoint by `knn` or by `linear` probes, and checks that the network stayed as it was.
 * @returns top-1 accuracy by width (shares from 0 to 1), and what guessing would give
 * @throws DataError, CheckpointError, SafetensorsError
 */
export async function evaluateCheckpoint(
  what: { knn: KnnAccuracyOptions } | { linear: LinearProbeOptions },
  { checkpoint: file, data, limit = 0, device: name = 'auto', threads = 0, report = () => {} }: EvaluateOptions,
): Promise<{ accuracy: Record<string, number>; chance: number }> {
  const folder = await scanImageFolder(data);
  const { device } = prepareDevice({ device: name, threads, precision: 'fp32' });
  const { encoder, network } = await loadEncoder(file, device);
  try {
    const before = await fingerprint(encoder);
    const pictures = await loadPictures(folder, { ...network.views, limit }, report);
    report({ type: 'message', text: `computing features at widths ${encoder.widths.join(', ')}` });
    const { train, test } = await frozenFeatures(encoder, pictures, network.views, device);
    const classes = pictures.classes.length;
    const accuracy =
      'knn' in what
        ? await knnAccuracy(train, test, classes, device, what.knn)
        : await linearAccuracy(train, test, classes, device, what.linear);
    if ((await fingerprint(encoder)) !== before)
      throw new Error('[evaluate] the network changed while it was evaluated');
    return { accuracy, chance: 1 / classes };
  } finally {
    encoder.dispose();
  }
}
