/* eslint-disable @typescript-eslint/no-require-imports --
   These floors load the addon. Commands fetch them when they run: --help and doctor must work where it does not load. */

export const floors = {
  train: () => require('../train') as typeof import('../train'),
  methods: () => require('../methods') as typeof import('../methods'),
  optim: () => require('../optim') as typeof import('../optim'),
  data: () => require('../data') as typeof import('../data'),
  io: () => require('../io') as typeof import('../io'),
  nn: () => require('../nn') as typeof import('../nn'),
  tensor: () => require('../tensor') as typeof import('../tensor'),
};
