/** Pictures: folders, decoding, data sets in memory, batches, generated shapes, random numbers. */
export { DataError } from './error';
export { scanImageFolder, type ImageFiles, type ImageFolder } from './folder';
export { decodeImage, BadImageError, type DecodedImage } from './decode';
export type { BadImage } from './bad-images';
export {
  openImages,
  loadImages,
  limitFiles,
  estimateBytes,
  MAX_STORE_BYTES,
  type ImageStore,
  type LoadOptions,
} from './image-store';
export {
  trainingBatches,
  orderedBatches,
  epochOrder,
  stepsPerEpoch,
  imageCount,
  type Batch,
  type ImageSource,
  type TrainingOptions,
} from './loader';
export { splitBatch } from './split-batch';
export type { DecodeOptions } from './batch-decoder';
export { generateShapes, SHAPE_CLASSES, type ShapesOptions } from './shapes';
export { writeShapes } from './write-shapes';
export { Philox, permutation, philox4x32, RandomStream } from './philox';
