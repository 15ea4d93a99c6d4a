"""How do child processes start, what do they share with their parent, how do they end?"""
