/**
 * SlimCLR: self-supervised pre-training of slimmable networks.
 *
 * `pretrain()` and `evaluateCheckpoint()` do what the command line does; what they are made of stands below them, floor
 * by floor: methods, networks and optimizers, pictures and files, tensors.
 */
export * from './train';
export * from './methods';
export * from './nn';
export * from './optim';
export * from './data';
export * from './io';
export * from './tensor';
