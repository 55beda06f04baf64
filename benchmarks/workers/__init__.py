"""What the contestants run, each in a process of its own. Those of the peers import no vaekit."""
