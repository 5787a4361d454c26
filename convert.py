from mlx_headpose.cli import main

main("convert")
