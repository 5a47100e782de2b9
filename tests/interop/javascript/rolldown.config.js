// The agent keeps a file of its own, so that an error tells a line of it; beside it is one file of all packages. The contract's
// interfaces stay imports.
export default {
  input: 'app.js',
  external: /^wasm-worker:/,
  output: { dir: 'dist', chunkFileNames: '[name].js', codeSplitting: { groups: [{ name: 'packages', test: /node_modules/ }] } },
};
