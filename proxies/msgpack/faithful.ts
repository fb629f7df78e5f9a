/** The settings of both directions, so that a decoded value equals the encoded one. */
export const FAITHFUL = { moreTypes: true, structuredClone: true, copyBuffers: true }
