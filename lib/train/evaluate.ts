import { DataError, scanImageFolder, type ImageSource } from '../data';
import type { SlimmableEncoder } from '../nn';
import type { Device } from '../tensor';
import { prepareDevice } from './device';
import { loadEncoder } from './encoder';
import { extractFeatures, fingerprint, type FeatureSet } from './features';
import { knnAccuracy, type KnnAccuracyOptions } from './knn';
import { linearAccuracy } from './linear-probe';
import { loadPictures, type Pictures } from './pictures';
import { checkProbe, type ProbeSettings } from './probe-config';
import { computedFeatures, randomCropFeatures } from './probe-features';
import type { Report } from './report';
import { Views, type ViewSettings } from './views';

/**
 * Features of labelled pictures to train and to test on, from a frozen network.
 * @throws DataError where the pictures lack classes or a test set
 */
export async function frozenFeatures(
  encoder: SlimmableEncoder,
  pictures: Pictures,
  settings: ViewSettings,
  device: Device,
  signal?: AbortSignal,
): Promise<{ train: FeatureSet; test: FeatureSet }> {
  const { train, test } = labelled(pictures);
  return {
    train: await extractFeatures(encoder, train, settings, device, signal),
    test: await extractFeatures(encoder, test, settings, device, signal),
  };
}

function labelled({ train, test }: Omit<Pictures, 'classes'>): { train: ImageSource; test: ImageSource } {
  if (test && train.labels) return { train, test };
  throw new DataError(
    '[evaluate] expected pictures in class folders, train/CLASS/* and test/CLASS/*, received pictures without ' +
      (train.labels ? 'a test set' : 'classes'),
  );
}

/**
 * kNN accuracy of every width of a network, by width.
 * @param options.signal aborting it ends the evaluation with the signal's reason
 */
export async function evaluateKnn(
  encoder: SlimmableEncoder,
  pictures: Pictures,
  settings: ViewSettings,
  device: Device,
  { signal, ...options }: KnnAccuracyOptions & { signal?: AbortSignal } = {},
): Promise<Record<string, number>> {
  const { train, test } = await frozenFeatures(encoder, pictures, settings, device, signal);
  return knnAccuracy(train, test, pictures.classes.length, device, options);
}

/**
 * Accuracy of linear probes of every width of a network, by width.
 * @param encoder frozen, in evaluation mode
 */
export async function evaluateLinear(
  encoder: SlimmableEncoder,
  pictures: Pictures,
  settings: ViewSettings,
  device: Device,
  { report, ...options }: ProbeSettings & { report?: Report } = {},
): Promise<Record<string, number>> {
  const { views: kind, ...probe } = checkProbe(options);
  const classes = pictures.classes.length;
  if (kind === 'center') {
    const { train, test } = await frozenFeatures(encoder, pictures, settings, device);
    return linearAccuracy(computedFeatures(train, device), test, classes, device, { ...probe, report });
  }
  const { train, test } = labelled(pictures);
  const cropped = { ...settings, seed: probe.seed };
  const views = new Views(train, cropped, device);
  try {
    const features = await randomCropFeatures(encoder, train, views, cropped);
    const testFeatures = await extractFeatures(encoder, test, settings, device);
    return await linearAccuracy(features, testFeatures, classes, device, { ...probe, report });
  } finally {
    views.dispose();
  }
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
  what: { knn: KnnAccuracyOptions } | { linear: ProbeSettings },
  { checkpoint: file, data, limit = 0, device: name = 'auto', threads = 0, report = () => {} }: EvaluateOptions,
): Promise<{ accuracy: Record<string, number>; chance: number }> {
  const folder = await scanImageFolder(data);
  labelled(folder); // before pictures are decoded, which may take long
  const { device } = prepareDevice({ device: name, threads, precision: 'fp32' });
  const { encoder, network } = await loadEncoder(file, device);
  try {
    const before = await fingerprint(encoder);
    const pictures = await loadPictures(folder, { ...network.views, limit }, report);
    report({ type: 'message', text: `computing features at widths ${encoder.widths.join(', ')}` });
    const accuracy =
      'knn' in what
        ? await evaluateKnn(encoder, pictures, network.views, device, what.knn)
        : await evaluateLinear(encoder, pictures, network.views, device, { ...what.linear, report });
    if ((await fingerprint(encoder)) !== before)
      throw new Error('[evaluate] the network changed while it was evaluated');
    return { accuracy, chance: 1 / pictures.classes.length };
  } finally {
    report({ type: 'end' });
    encoder.dispose();
  }
}
