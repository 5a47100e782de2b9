// The worker of ../livekit_agents/worker.py with npm's @livekit/agents: it registers as AGENT_NAME, takes every job,
// and does what the job's metadata says. It joins no room, and is never full.
//
// This version reports nothing of its jobs to the server: neither that one runs nor how it ended.

import { fileURLToPath } from 'node:url';

import { ServerOptions, cli, defineAgent } from '@livekit/agents';

export default defineAgent({
  entry: async (ctx) => {
    tell(ctx, 'began');
    ctx.addShutdownCallback(async () => tell(ctx, 'ended'));
    const [behaviour = 'ok', argument] = ctx.job.metadata.split(' ').filter(Boolean);
    switch (behaviour) {
      case 'ok':
        // A return alone does not end a job here.
        ctx.shutdown();
        break;
      case 'sleep':
        // It returns and goes on, as an agent in a room does: a termination waits 15 seconds for one that has not.
        setTimeout(() => ctx.shutdown(), Number(argument) * 1000);
        break;
      case 'raise':
        throw new Error('as it was told');
      case 'exit':
        process.exit(Number(argument));
      default:
        throw new Error(`unknown behaviour \`${ctx.job.metadata}\``);
    }
  },
});

const tell = (ctx, what) => console.error(`${what} job="${ctx.job.id}"`);

// The processes of its jobs import this file too; they have a parent to talk to.
if (!process.send) {
  cli.runApp(
    new ServerOptions({
      agent: fileURLToPath(import.meta.url),
      agentName: process.env.AGENT_NAME,
      host: '127.0.0.1',
      // Any free one; the number 0 would be taken for the default, 8081.
      port: '0',
      loadFunc: async () => 0.1,
      numIdleProcesses: 2,
    }),
  );
}
