/** The run: settings, pre-training, checkpoints, evaluation. */
export { benchConv, benchLoss, benchStep, type BenchOptions, type ConvSpeed, type StepTime } from './benchmark';
export { CheckpointError, readCheckpoint, type Checkpoint, type CheckpointConfig, type Progress } from './checkpoint';
export { ConfigError, readSettings, resolveConfig, type RunConfig, type Settings } from './config';
export { prepareDevice } from './device';
export { embed, type Rows } from './embed';
export { loadEncoder } from './encoder';
export { evaluateCheckpoint, evaluateKnn, frozenFeatures, type EvaluateOptions } from './evaluate';
export { exportNetwork, type StandaloneNetwork } from './export';
export { extractFeatures, fingerprint, type FeatureSet } from './features';
export { importCheckpoint, type ImportOptions } from './import';
export { knnAccuracy, type KnnAccuracyOptions } from './knn';
export { linearAccuracy, type LinearProbeOptions } from './linear-probe';
export { readNetwork, type NetworkOptions, type StoredNetwork } from './network';
export { loadPictures, type Pictures } from './pictures';
export { readProbe, type ProbeSettings } from './probe-config';
export { pretrain, RunError, runFiles, type PretrainOptions, type PretrainResult } from './pretrain';
export { consoleReport, type Report, type RunEvent } from './report';
export { normalisation, Views, type ViewSettings } from './views';
