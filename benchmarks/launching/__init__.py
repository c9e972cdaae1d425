"""Starting what carries cells out: processes of this machine, jobs of Slurm. Imports neither tasks nor running."""
