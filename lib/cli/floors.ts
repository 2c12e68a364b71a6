/* eslint-disable @typescript-eslint/no-require-imports */
// These floors load the addon. Commands fetch them when they run: --help and doctor must work where it does not load.
import type * as Report from '../report';
import type * as Train from '../train';
import type * as Data from '../data';
import type * as Io from '../io';
import type * as Nn from '../nn';
import type * as Tensor from '../tensor';

export const floors = {
  report: () => require('../report') as typeof Report,
  train: () => require('../train') as typeof Train,
  data: () => require('../data') as typeof Data,
  io: () => require('../io') as typeof Io,
  nn: () => require('../nn') as typeof Nn,
  tensor: () => require('../tensor') as typeof Tensor,
};
