from scarcegan.cli import main

main()
